package store

import (
	"bytes"
	"container/heap"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Memory is a store that lives as long as the process.
type Memory struct {
	memorySpace
	opts Options

	spacesMu sync.Mutex
	spaces   map[string]*memorySpace
}

var (
	_ Spaces = (*Memory)(nil)
	_ Store  = (*memorySpace)(nil)
)

// NewMemory makes an empty store.
func NewMemory(o Options) *Memory {
	o = o.withDefaults()
	m := &Memory{opts: o, spaces: make(map[string]*memorySpace)}
	m.memorySpace.init(o.Now, o.Max)
	return m
}

// Space gives the space of that name; see [Spaces].
func (m *Memory) Space(name string, max int) (Store, error) {
	if err := checkSpace(name); err != nil {
		return nil, err
	}
	if max <= 0 {
		max = DefaultMax
	}
	m.spacesMu.Lock()
	defer m.spacesMu.Unlock()
	if m.isClosed() {
		return nil, ErrClosed
	}
	if s, ok := m.spaces[name]; ok {
		s.setMax(max)
		return s, nil
	}
	if len(m.spaces) >= maxSpaces {
		return nil, fmt.Errorf("store: more than %d spaces", maxSpaces)
	}
	s := new(memorySpace)
	s.init(m.opts.Now, max)
	m.spaces[name] = s
	return s, nil
}

// Close forgets all.
func (m *Memory) Close() error {
	m.spacesMu.Lock()
	defer m.spacesMu.Unlock()
	m.end()
	for _, s := range m.spaces {
		s.end()
	}
	return nil
}

// memorySpace is one space of a Memory; the Memory itself is one more.
type memorySpace struct {
	now func() time.Time

	mu      sync.Mutex
	closed  bool
	max     int
	entries map[string]*item
	queue   queue // the entry that expires next is the first
}

// item is an entry.
type item struct {
	key     string
	value   []byte
	number  int64 // instead of value, if counter
	counter bool
	expires int64 // Unix nanoseconds
	place   int   // in the queue
}

func (it *item) get() []byte {
	if it.counter {
		return strconv.AppendInt(nil, it.number, 10)
	}
	return bytes.Clone(it.value)
}

func (s *memorySpace) init(now func() time.Time, max int) {
	s.now, s.max, s.entries = now, max, make(map[string]*item)
}

// Close does nothing: a space ends with its store.
func (s *memorySpace) Close() error { return nil }

func (s *memorySpace) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.entries, s.queue = true, nil, nil
}

func (s *memorySpace) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *memorySpace) setMax(max int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.max = max
	s.shrink()
}

// Get gives the value under key.
func (s *memorySpace) Get(key []byte) ([]byte, bool, error) {
	if err := checkKey(key); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, ErrClosed
	}
	it := s.live(key)
	if it == nil {
		return nil, false, nil
	}
	return it.get(), true, nil
}

// live gives the entry under key unless it has expired.
func (s *memorySpace) live(key []byte) *item {
	it, ok := s.entries[string(key)]
	if !ok || it.expires <= s.now().UnixNano() {
		return nil
	}
	return it
}

// Put stores value under key for ttl.
func (s *memorySpace) Put(key, value []byte, ttl time.Duration) error {
	if err := checkEntry(key, value, ttl); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.set(item{key: string(key), value: bytes.Clone(value)}, ttl)
	return nil
}

// PutIfAbsent stores value under key for ttl if nothing is there.
func (s *memorySpace) PutIfAbsent(key, value []byte, ttl time.Duration) (existing []byte, stored bool, err error) {
	if err := checkEntry(key, value, ttl); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, ErrClosed
	}
	if it := s.live(key); it != nil {
		return it.get(), false, nil
	}
	s.set(item{key: string(key), value: bytes.Clone(value)}, ttl)
	return nil, true, nil
}

// Add adds n to the counter under key.
func (s *memorySpace) Add(key []byte, n int64, ttl time.Duration) (int64, error) {
	if err := checkEntry(key, nil, ttl); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	it := s.live(key)
	switch {
	case it == nil:
		s.set(item{key: string(key), number: n, counter: true}, ttl)
		return n, nil
	case !it.counter:
		return 0, ErrNotCounter
	}
	it.number = addSaturated(it.number, n)
	return it.number, nil
}

// Apply makes several changes while nobody else looks.
func (s *memorySpace) Apply(changes []Change) error {
	if err := checkChanges(changes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && len(changes) > 0 {
		return ErrClosed
	}
	for _, c := range changes {
		if !c.Delete {
			s.set(item{key: string(c.Key), value: bytes.Clone(c.Value)}, c.TTL)
		} else if it, ok := s.entries[string(c.Key)]; ok {
			s.remove(it)
		}
	}
	return nil
}

// Delete removes what is under key.
func (s *memorySpace) Delete(key []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if it, ok := s.entries[string(key)]; ok {
		s.remove(it)
	}
	return nil
}

// set makes it the entry under its key.
func (s *memorySpace) set(it item, ttl time.Duration) {
	it.expires = expiry(s.now(), ttl)
	if old, ok := s.entries[it.key]; ok {
		it.place = old.place
		*old = it
		heap.Fix(&s.queue, it.place)
	} else {
		s.entries[it.key] = &it
		heap.Push(&s.queue, &it)
	}
	s.shrink()
}

// shrink removes a few entries that have expired, and what is too much. Two for each that comes are enough for the expired
// ones to become fewer.
func (s *memorySpace) shrink() {
	now := s.now().UnixNano()
	for range 2 {
		if len(s.queue) > 0 && s.queue[0].expires <= now {
			s.remove(s.queue[0])
		}
	}
	for len(s.queue) > s.max {
		s.remove(s.queue[0])
	}
}

func (s *memorySpace) remove(it *item) {
	delete(s.entries, it.key)
	heap.Remove(&s.queue, it.place)
}

// queue is a heap of entries by the time at which they expire.
type queue []*item

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].expires < q[j].expires }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push is for container/heap.
func (q *queue) Push(x any) {
	it := x.(*item)
	it.place = len(*q)
	*q = append(*q, it)
}

// Pop is for container/heap.
func (q *queue) Pop() any {
	old := *q
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return it
}
