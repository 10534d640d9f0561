package run

import "sync"

// chorus speaks to the service manager for several watches: it is up when all
// are, and lives as long as all do.
type chorus struct {
	mu     sync.Mutex
	to     *notifier
	silent map[*notifier]bool // not ready yet
	still  map[*notifier]bool // not turned since the last sign of life; all members are in it then
	all    map[*notifier]bool
}

func newChorus(to *notifier) *chorus {
	return &chorus{to: to, silent: map[*notifier]bool{}, still: map[*notifier]bool{}, all: map[*notifier]bool{}}
}

// join returns the notifier of one more watch.
func (c *chorus) join() *notifier {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &notifier{every: c.to.every, chorus: c}
	c.silent[n], c.still[n], c.all[n] = true, true, true
	return n
}

// leave is of a watch that has come to its own end.
func (c *chorus) leave(n *notifier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.silent, n)
	delete(c.still, n)
	delete(c.all, n)
}

func (c *chorus) ready(n *notifier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.silent, n); len(c.silent) == 0 {
		c.to.ready()
	}
}

func (c *chorus) alive(n *notifier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.still, n); len(c.still) > 0 || !c.to.alive() {
		return
	}
	for m := range c.all {
		c.still[m] = true
	}
}
