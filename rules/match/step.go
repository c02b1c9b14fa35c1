package match

import (
	"regexp/syntax"
	"slices"
)

// A stepper moves threads over one character. It is memory for one goroutine at a time.
type stepper struct {
	prog    *program
	mark    []uint32 // by node: the round in which it was put into a list
	round   uint32
	stack   []uint32
	ready   []uint32
	next    []uint32 // nodes after the character, in no order
	reports []uint32
	nodes   []uint32 // of a simulation
	key     []byte
}

func newStepper(p *program) *stepper {
	return &stepper{prog: p, mark: make([]uint32, len(p.nodes))}
}

func (s *stepper) newRound() {
	s.round++
	if s.round == 0 {
		clear(s.mark)
		s.round = 1
	}
}

// step moves the threads at nodes, after a character of kind before, over one of a class. It leaves the nodes that
// follow in next, and what was complete before the character in reports.
func (s *stepper) step(nodes []uint32, before kind, class int) {
	p := s.prog
	s.resolve(nodes, holding[before][p.kinds[class]])
	s.next = s.next[:0]
	s.newRound()
	if class == p.classes.count {
		return
	}
	done := len(s.reports) > 0
	for _, n := range s.ready {
		nd := &p.nodes[n]
		if p.members[nd.arg].has(class) && !(done && s.complete(nd.piece)) {
			s.add(p.lists[nd.next])
		}
	}
}

// join adds what another step over the same character came to.
func (s *stepper) join(other *state) {
	for i := 0; i+4 <= len(other.nodes); i += 4 {
		if n := nodeAt(other.nodes, i); s.mark[n] != s.round {
			s.mark[n] = s.round
			s.next = append(s.next, n)
		}
	}
	s.joinReports(other.reports)
}

func (s *stepper) joinReports(reports []uint32) {
	for _, n := range reports {
		if !slices.Contains(s.reports, n) {
			s.reports = append(s.reports, n)
		}
	}
}

func (s *stepper) add(list []uint32) {
	for _, n := range list {
		if s.mark[n] != s.round {
			s.mark[n] = s.round
			s.next = append(s.next, n)
		}
	}
}

// resolve finds the nodes that wait for a character where the given assertions hold, and the reports.
func (s *stepper) resolve(nodes []uint32, hold syntax.EmptyOp) {
	p := s.prog
	s.ready, s.reports, s.stack = s.ready[:0], s.reports[:0], s.stack[:0]
	s.newRound()
	for _, first := range nodes {
		s.stack = append(s.stack, first)
		for len(s.stack) > 0 {
			n := s.stack[len(s.stack)-1]
			s.stack = s.stack[:len(s.stack)-1]
			nd := &p.nodes[n]
			switch {
			case nd.op == opRune:
				// The same node twice is the same as once, so there is no need to mark it.
				s.ready = append(s.ready, n)
			case s.mark[n] == s.round:
			case nd.op == opReport:
				s.mark[n] = s.round
				if !slices.Contains(s.reports, nd.arg) {
					s.reports = append(s.reports, nd.arg)
				}
			case syntax.EmptyOp(nd.arg)&^hold == 0:
				s.mark[n] = s.round
				s.stack = append(s.stack, p.lists[nd.next]...)
			}
		}
	}
}

// complete reports whether a piece has just matched: its other threads that began before can say nothing new.
func (s *stepper) complete(piece uint32) bool {
	for _, n := range s.reports {
		if n == piece {
			return true
		}
	}
	return false
}
