package kubesim

import (
	"container/heap"
	"sync"
	"time"
)

// brain does things later, one after the other, in the order of their time
// and, at the same time, of their making.
type brain struct {
	s     *Sim
	work  sync.Mutex       // held while one thing is done; guards loads
	loads map[string]*load // by resource/namespace/name

	mu      sync.Mutex
	queue   agenda
	seq     int
	running bool
	wake    chan struct{}
	stopped bool
}

type task struct {
	at  time.Time
	seq int
	do  func()
}

type agenda []task

func (t agenda) Len() int { return len(t) }
func (t agenda) Less(i, j int) bool {
	return t[i].at.Before(t[j].at) || t[i].at.Equal(t[j].at) && t[i].seq < t[j].seq
}
func (t agenda) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *agenda) Push(x any)   { *t = append(*t, x.(task)) }
func (t *agenda) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}

// after does do in d.
func (b *brain) after(d time.Duration, do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	b.seq++
	heap.Push(&b.queue, task{time.Now().Add(d), b.seq, do})
	if b.running {
		select {
		case b.wake <- struct{}{}:
		default:
		}
		return
	}
	b.running = true
	b.wake = make(chan struct{}, 1)
	go b.run()
}

// run ends when there is nothing left to do.
func (b *brain) run() {
	for {
		b.mu.Lock()
		if b.stopped || len(b.queue) == 0 {
			b.running = false
			b.mu.Unlock()
			return
		}
		if d := time.Until(b.queue[0].at); d > 0 {
			b.mu.Unlock()
			t := time.NewTimer(d)
			select {
			case <-t.C:
			case <-b.wake:
			}
			t.Stop()
			continue
		}
		next := heap.Pop(&b.queue).(task)
		b.mu.Unlock()
		b.work.Lock()
		next.do()
		b.work.Unlock()
	}
}

func (b *brain) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	b.queue = nil
	if b.running {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}
