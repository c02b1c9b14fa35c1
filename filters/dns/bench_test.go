package dns_test

import (
	"fmt"
	"sync"
	"testing"

	"postern/filters/dns"
)

func benchResolver(b *testing.B, cfg dns.Config) *dns.Resolver {
	s := serve(b, "*.example.org. 300 A 192.0.2.1\n")
	cfg.Servers, cfg.Timeout = []string{s.Addr()}, patient
	return newResolver(b, cfg)
}

func BenchmarkCacheHit(b *testing.B) {
	r := benchResolver(b, dns.Config{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.A(b.Context(), "www.example.org"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMiss has the cost of the zone server in it, which answers on the same processors.
func BenchmarkMiss(b *testing.B) {
	r := benchResolver(b, dns.Config{Cache: -1})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.A(b.Context(), "www.example.org"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConcurrentMisses has 100 look-ups of one name that nobody knows yet, as a burst from one client makes them.
func BenchmarkConcurrentMisses(b *testing.B) {
	r := benchResolver(b, dns.Config{})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		name := fmt.Sprintf("n%d.example.org", i)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, err := r.A(b.Context(), name); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
	}
}
