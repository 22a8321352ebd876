package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"
)

// children are the series of a metric by their labels. Each is resolved once; from then on it is found without a lock, an
// allocation or hashing its labels anew. There are only ever a few: a label is never what a caller wrote.
type children[K comparable, V any] struct {
	resolve func(K) V
	known   atomic.Pointer[map[K]V]
	adding  sync.Mutex
}

func newChildren[K comparable, V any](resolve func(K) V, known ...K) *children[K, V] {
	c := &children[K, V]{resolve: resolve}
	c.known.Store(&map[K]V{})
	for _, labels := range known {
		c.get(labels) // so that the series is there from the start, at zero
	}
	return c
}

func (c *children[K, V]) get(labels K) V {
	if v, ok := (*c.known.Load())[labels]; ok {
		return v
	}
	c.adding.Lock()
	defer c.adding.Unlock()
	old := *c.known.Load()
	if v, ok := old[labels]; ok {
		return v
	}
	more := maps.Clone(old)
	more[labels] = c.resolve(labels)
	c.known.Store(&more)
	return more[labels]
}
