package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// A benchReport is what was measured; its JSON is what -json prints. Times are in milliseconds.
type benchReport struct {
	Machine struct {
		System     string `json:"system"`
		Processors int    `json:"processors"`
		Go         string `json:"go"`
	} `json:"machine"`
	Mail struct {
		Messages int `json:"messages"` // different ones
		Median   int `json:"median_bytes"`
		Mean     int `json:"mean_bytes"`
	} `json:"mail"`
	Connections int              `json:"connections"`
	Seconds     float64          `json:"seconds"`
	Delivered   int64            `json:"delivered"`
	Rate        float64          `json:"messages_per_second"`
	Whole       benchLatency     `json:"ms_message"`
	Dot         benchLatency     `json:"ms_after_dot"`
	CPU         float64          `json:"cpu_ms_per_message"` // of the proxy; 0 with -direct
	Cores       float64          `json:"cores"`              // that the proxy kept busy
	Queries     float64          `json:"dns_queries_per_message"`
	Peak        int64            `json:"peak_bytes"`
	Busy        int64            `json:"peak_bytes_per_connection"` // above that of the proxy without connections
	Heap        int64            `json:"allocated_bytes_per_message"`
	Idle        *benchIdle       `json:"idle,omitempty"`
	Nginx       *benchComparison `json:"nginx,omitempty"`
	Refused     map[string]int64 `json:"refused"`
	Failed      map[string]int64 `json:"failed"`

	direct bool
	lost   int64 // accepted, and not at the mail server; negative where it has more
}

// A benchLatency is of the messages that were accepted.
type benchLatency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func latency(sorted []time.Duration) benchLatency {
	return benchLatency{
		P50: inMS(percentile(sorted, 50)), P95: inMS(percentile(sorted, 95)),
		P99: inMS(percentile(sorted, 99)), Max: inMS(percentile(sorted, 100)),
	}
}

func inMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func newBenchReport(o benchOptions, mail *benchMail, out *benchOutcome) *benchReport {
	r := &benchReport{
		Connections: o.connections,
		Seconds:     out.took.Seconds(),
		Delivered:   out.delivered,
		Rate:        float64(out.delivered) / out.took.Seconds(),
		Whole:       latency(out.whole),
		Dot:         latency(out.dot),
		Refused:     out.refused,
		Failed:      out.failed,
		direct:      o.direct,
	}
	r.Machine.System = runtime.GOOS + "/" + runtime.GOARCH
	r.Machine.Processors, r.Machine.Go = runtime.GOMAXPROCS(0), runtime.Version()
	r.Mail.Messages = len(mail.messages)
	r.Mail.Median, r.Mail.Mean = mail.sizes()
	return r
}

// use notes what the proxy used for the messages that were sent, and how often it asked DNS.
func (r *benchReport) use(before, after benchUsage, queries int) {
	cpu := after.CPU - before.CPU
	if sent := float64(r.Delivered + total(r.Refused) + total(r.Failed)); sent > 0 {
		r.CPU = inMS(cpu) / sent
		r.Queries = float64(queries) / sent
		r.Heap = (after.Heap - before.Heap) / int64(sent)
	}
	r.Cores, r.Peak = cpu.Seconds()/r.Seconds, after.Peak
}

func total(counts map[string]int64) (sum int64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// problem is why the measurement is not to be trusted; "" for nothing.
func (r *benchReport) problem() string {
	switch {
	case total(r.Failed) > 0:
		return fmt.Sprintf("%d messages failed", total(r.Failed))
	case total(r.Refused) > 0:
		return fmt.Sprintf("%d messages were refused", total(r.Refused))
	case r.Delivered == 0:
		return "no message was delivered"
	case r.lost != 0:
		return fmt.Sprintf("%d more messages were accepted than the mail server has", r.lost)
	}
	return ""
}

func (r *benchReport) print(out io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "mail\t%d different messages, median %s, mean %s\n", r.Mail.Messages, kilobytes(r.Mail.Median), kilobytes(r.Mail.Mean))
	fmt.Fprintf(w, "machine\t%s, %d processors, %s; generator, mail server and DNS server run on it too\n", r.Machine.System, r.Machine.Processors, r.Machine.Go)
	fmt.Fprintf(w, "delivered\t%d messages in %.1f s over %d connections at once\n", r.Delivered, r.Seconds, r.Connections)
	fmt.Fprintf(w, "rate\t%.0f messages/s\n", r.Rate)
	fmt.Fprintf(w, "latency\t%s, connection to acceptance\n\t%s, final dot to acceptance\n", r.Whole, r.Dot)
	if !r.direct {
		fmt.Fprintf(w, "processor\t%.3f ms a message, %.2f cores busy\n", r.CPU, r.Cores)
		fmt.Fprintf(w, "DNS\t%.2f queries a message\n", r.Queries)
		fmt.Fprintf(w, "memory\t%s at most, %s a connection; %s allocated a message\n", megabytes(r.Peak), kilobytes(r.Busy), kilobytes(r.Heap))
	}
	if r.Idle != nil {
		fmt.Fprintf(w, "idle\t%s a connection before its first command, %s after EHLO; %d of them: %s\n",
			kilobytes(r.Idle.Greeted), kilobytes(r.Idle.After), r.Idle.Connections, megabytes(r.Idle.RSS))
	}
	if n := r.Nginx; n != nil {
		fmt.Fprintf(w, "nginx\t%.0f messages/s with %.3f ms of processor each; in turn with it the proxy carries %.0f, %.0f %% of that\n",
			n.Rate, n.CPU, n.Own, 100*n.Share)
	}
	printCounts(w, "refused", r.Refused)
	printCounts(w, "failed", r.Failed)
	return w.Flush()
}

func (l benchLatency) String() string {
	return fmt.Sprintf("p50 %.1f  p95 %.1f  p99 %.1f  max %.1f ms", l.P50, l.P95, l.P99, l.Max)
}

func kilobytes[T int | int64](n T) string { return fmt.Sprintf("%.1f KB", float64(n)/1024) }

// megabytes writes a number of bytes; 0 is what the system does not tell.
func megabytes(n int64) string {
	if n == 0 {
		return "an unknown number of MB"
	}
	return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
}

// benchShown is how many different replies or errors are listed.
const benchShown = 5

// printCounts lists the most frequent first.
func printCounts(w io.Writer, name string, counts map[string]int64) {
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return int(counts[b] - counts[a])
		}
		if a < b {
			return -1
		}
		return 1
	})
	for i, key := range keys {
		if i == benchShown {
			fmt.Fprintf(w, "\t… and %d others\n", len(keys)-i)
			break
		}
		fmt.Fprintf(w, "%s\t%d × %s\n", name, counts[key], key)
		name = ""
	}
}
