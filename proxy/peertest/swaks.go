package peertest

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"
)

// swaksLimit bounds one run of swaks.
const swaksLimit = 5 * time.Minute

// Swaks runs swaks with the arguments and gives its transcript (what it sent after "->", what it heard after "<-"
// or, for refusals, "<**") and its exit status: 0 delivered, 2 no connection, 21 banner, 22 HELO, 23 MAIL, 24 no
// recipient accepted, 25 DATA, 26 refused after the final dot, 28 authentication, 29 TLS.
func Swaks(t testing.TB, args ...string) (transcript string, exit int) {
	t.Helper()
	Need(t, NeedSwaks)
	ctx, cancel := context.WithTimeout(context.Background(), swaksLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "swaks", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exitErr *exec.ExitError
	if err != nil && !errors.As(err, &exitErr) {
		t.Fatalf("run swaks: %v", err)
	}
	if ctx.Err() != nil {
		t.Fatalf("swaks did not end within %v:\n%s", swaksLimit, out.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}
