package kubesim_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"homelab/internal/kubesim"
)

// What a test writes while controllers are at work stays written, and what it
// deletes stays deleted.
func TestWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	s := kubesim.New(kubesim.Options{})
	defer s.Close()
	var names []string
	for n := range 20 {
		names = append(names, fmt.Sprintf("web-%d", n))
		s.Deploy(kubesim.Workload{Namespace: "shop", Name: names[n], Image: "reg.lan/web:1"})
	}
	end := time.Now().Add(300 * time.Millisecond)
	var kicks sync.WaitGroup
	kicks.Go(func() {
		for time.Now().Before(end) {
			for _, name := range names {
				s.Kick("shop/" + name)
			}
			time.Sleep(time.Millisecond)
		}
	})
	lost := 0
	for n := 0; time.Now().Before(end); n++ {
		for _, name := range names {
			s.Update("deployments", "shop", name, func(o kubesim.Object) {
				m := o["metadata"].(kubesim.Object)
				if kept, _ := m["note"].(float64); n > 0 && int(kept) != n-1 {
					lost++
				}
				m["note"] = n
				o["status"] = kubesim.Object{"replicas": n} // which is for its controller to mend
			})
		}
	}
	if lost > 0 {
		t.Errorf("%d writes were lost", lost)
	}
	kicks.Wait()
	for _, name := range names {
		s.Kick("shop/" + name)
	}
	time.Sleep(21 * time.Millisecond) // they are at it
	for _, name := range names {
		s.Delete("deployments", "shop", name)
	}
	time.Sleep(50 * time.Millisecond)
	if left := s.Objects("deployments", "shop"); len(left) > 0 {
		t.Errorf("%d came back", len(left))
	}
}
