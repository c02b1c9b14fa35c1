package main

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"

	"postern/filters"
	"postern/filters/dns"
	"postern/filters/message"
	"postern/filters/message/mailbox"
	"postern/proxy"
)

// A class is what a stored message is known to be.
type class string

const (
	ham  class = "ham"
	spam class = "spam"
)

var classes = []class{ham, spam}

// corpusFlags name stored mail that is known to be ham or spam, and how it is judged.
type corpusFlags struct {
	paths    map[class][]string
	dns      bool
	authserv string // whose recorded results of SPF, DKIM, ARC and DMARC count

	recorded atomic.Int64 // messages with such results
}

func (f *corpusFlags) register(c *call) {
	f.paths = map[class][]string{}
	for _, k := range classes {
		f.add(c, k, fmt.Sprintf("mail that is %s", k))
	}
	c.flags.BoolVar(&f.dns, "dns", false, "ask DNS, as it is today (default: no network is used)")
	c.flags.StringVar(&f.authserv, "authserv-id", "", "take SPF, DKIM, ARC and DMARC from what the host `NAME` recorded in Authentication-Results (default the hostname of the configuration, with -dns nobody; - for nobody)")
}

// add makes the flag for the mail of a class.
func (f *corpusFlags) add(c *call, k class, what string) {
	c.flags.Func(string(k), fmt.Sprintf("the `PATH` of %s: a file, folder, Maildir or mbox; may be given again", what), func(path string) error {
		f.paths[k] = append(f.paths[k], path)
		return nil
	})
}

func (f *corpusFlags) given() bool { return len(f.paths[ham])+len(f.paths[spam]) > 0 }

// options are those of the runtimes that judge the mail. Without DNS the checks that need it fail, which must not tag
// or defer a message.
func (f *corpusFlags) options(cfg *proxy.Config) proxy.RuntimeOptions {
	opt := proxy.RuntimeOptions{NoTests: true}
	if !f.dns {
		cfg.Filters.PassErrors()
		opt.Resolver = dns.Offline()
		f.authserv = cmp.Or(f.authserv, cfg.Hostname)
	}
	if f.authserv != nobody {
		opt.Recorded = f.authserv
	}
	return opt
}

// nobody is the authserv-id under which nothing was recorded.
const nobody = "-"

// tell says what judging without DNS means. What it gives says, when all are judged, for how many messages it was otherwise.
func (f *corpusFlags) tell(c *call) (after func()) {
	if !f.dns {
		fmt.Fprintln(c.stderr, "offline: no DNS is asked; SPF, DKIM, DMARC and DNS lists are unknown to the rules")
	}
	return func() {
		if n := f.recorded.Load(); n > 0 {
			fmt.Fprintf(c.stderr, "%s judged by what %s recorded of SPF, DKIM, ARC and DMARC\n", plural(int(n), "message"), f.authserv)
		}
	}
}

// An unjudged counts the messages that could not be read, and prints why.
type unjudged struct {
	c *call
	n int
}

func (u *unjudged) add(path string, err error) {
	u.n++
	fmt.Fprintf(u.c.stderr, "postern %s: %s: not judged: %v\n", u.c.cmd.name, printable(path), err)
}

// judgeCorpus judges all messages of a class on all cores: judge is called by many goroutines, take by one, in the order
// of the messages.
func judgeCorpus[T any](ctx context.Context, f *corpusFlags, k class, judge func(*message.Message) T, take func(path string, result T), bad *unjudged) []error {
	type judged struct {
		path   string
		result T
		err    error
	}
	return eachMessage(ctx, f.paths[k], func(item mailbox.Item) judged {
		if item.Err != nil {
			return judged{path: item.Path, err: item.Err}
		}
		msg, err := message.Read(item.Data, item.Size)
		if err != nil {
			return judged{path: item.Path, err: err}
		}
		if f.authserv != nobody && len(filters.Recorded(msg.Header, f.authserv)) > 0 {
			f.recorded.Add(1)
		}
		return judged{path: item.Path, result: judge(msg)}
	}, func(j judged) {
		if j.err != nil {
			bad.add(j.path, j.err)
			return
		}
		take(j.path, j.result)
	})
}
