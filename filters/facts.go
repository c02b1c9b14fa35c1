package filters

import (
	"context"
	"errors"
	"fmt"
)

// A Key names the check that yields a typed fact: var SPFKey = Key[*SPFResult]{Check: "spf"}.
type Key[T any] struct{ Check string }

// ErrSkipped is what awaiting a check gives that did not run: it is switched off, or its sender is not judged.
var ErrSkipped = errors.New("check did not run")

// Facts gives a running check the results of those that it declared in Needs, and of no others.
type Facts struct {
	owner string
	needs map[string]*task
}

// Await waits for the fact of a needed check. It fails with [ErrSkipped] when that check did not run, with the
// check's own error when it failed, and with ctx's when that ends first.
func Await[T any](ctx context.Context, f *Facts, k Key[T]) (T, error) {
	var zero T
	report, err := f.Report(ctx, k.Check)
	if err != nil {
		return zero, err
	}
	fact, ok := report.Fact.(T)
	switch {
	case ok:
		return fact, nil
	case report.Err != nil:
		return zero, fmt.Errorf("%s: %w", k.Check, report.Err)
	}
	return zero, fmt.Errorf("%s yields %T, %s awaits %T", k.Check, report.Fact, f.owner, zero)
}

// Report waits for the whole report of a needed check.
func (f *Facts) Report(ctx context.Context, check string) (Report, error) {
	t, declared := f.needs[check]
	switch {
	case !declared:
		return Report{}, fmt.Errorf("%s awaits %s without needing it", f.owner, check)
	case t == nil:
		return Report{}, ErrSkipped
	}
	select {
	case <-t.done:
		return t.report, nil
	default:
	}
	select {
	case <-t.done:
		return t.report, nil
	case <-ctx.Done():
		return Report{}, fmt.Errorf("awaiting %s: %w", check, context.Cause(ctx))
	}
}
