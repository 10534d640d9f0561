package kube_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/kube"
)

// sink writes down what it is told, with the time since its start.
type sink struct {
	mu    sync.Mutex
	start time.Time
	lines []string
	state kube.FollowState
	have  map[string]string // name: resourceVersion
	back  []string          // versions that went back
}

func newSink() *sink { return &sink{start: time.Now(), have: map[string]string{}} }

func (s *sink) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf("%.1f ", time.Since(s.start).Seconds())+fmt.Sprintf(format, args...))
}

func (s *sink) note(o kube.Object) {
	if o.ResourceVersion < s.have[o.Name] { // all have four digits
		s.back = append(s.back, o.Name+" "+o.ResourceVersion)
	}
	s.have[o.Name] = o.ResourceVersion
}

func (s *sink) Synced(items []kube.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have = map[string]string{}
	var names []string
	for _, o := range items {
		s.note(o)
		names = append(names, o.Name)
	}
	s.say("synced %s", strings.Join(names, ","))
}

func (s *sink) Changed(o kube.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(o)
	s.say("changed %s", o.Name)
}

func (s *sink) Deleted(o kube.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.have, o.Name)
	s.say("deleted %s", o.Name)
}

func (s *sink) State(st kube.FollowState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = st
	text := string(st.Mode)
	if st.Refused != nil {
		text += " refused"
	}
	if st.Err != nil {
		text += " trouble"
	}
	s.say("%s", text)
}

func (s *sink) story() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// lab is a Follow of deployments in shop over a simulated server, in a bubble.
type lab struct {
	*testing.T
	sim  *kubesim.Sim
	c    *kube.Cluster
	sink *sink
	end  context.CancelFunc
	err  chan error
}

func deployment(name string, n int) kubesim.Object {
	return kubesim.Object{
		"metadata": kubesim.Object{"namespace": "shop", "name": name, "labels": kubesim.Object{"app": name}},
		"spec":     kubesim.Object{"replicas": n},
	}
}

// follow runs f in a bubble. before may prepare the server.
func follow(t *testing.T, q kube.Query, before func(*kubesim.Sim) string, f func(*lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sim := kubesim.New(kubesim.Options{})
		defer sim.Close()
		sim.Put("deployments", deployment("web", 1))
		sim.Put("deployments", deployment("api", 1))
		token := kubesim.Admin
		if before != nil {
			if other := before(sim); other != "" {
				token = other
			}
		}
		c := kube.New(kubesim.Base(), sim.Transport(token), kube.Options{
			Random: func() float64 { return 0.5 }, Log: t.Logf,
		})
		ctx, cancel := context.WithCancel(t.Context())
		l := &lab{T: t, sim: sim, c: c, sink: newSink(), end: cancel, err: make(chan error, 1)}
		go func() { l.err <- c.Follow(ctx, kube.Apps("deployments"), "shop", q, l.sink) }()
		synctest.Wait()
		f(l)
		cancel()
		synctest.Wait()
		select {
		case err := <-l.err:
			if err == nil {
				t.Error("Follow ended without a cause")
			}
		default:
			t.Error("Follow did not return at once")
		}
		if len(l.sink.back) > 0 {
			t.Errorf("versions went back: %v", l.sink.back)
		}
	})
}

func (l *lab) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (l *lab) change(name string, n int) {
	l.sim.Put("deployments", deployment(name, n))
	synctest.Wait()
}

func (l *lab) tells(want ...string) {
	l.Helper()
	if got := l.sink.story(); !slices.Equal(got, want) {
		l.Errorf("told\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// asked is when each list and watch was asked, in seconds.
func (l *lab) asked(want ...string) {
	l.Helper()
	var got []string
	for _, r := range l.sim.Requests() {
		got = append(got, fmt.Sprintf("%.1f %s", r.Time.Sub(l.sink.start).Seconds(), r.Verb))
	}
	if !slices.Equal(got, want) {
		l.Errorf("asked\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestFollowTellsChanges(t *testing.T) {
	follow(t, kube.Query{}, nil, func(l *lab) {
		l.wait(time.Second)
		l.change("web", 2)
		l.change("new", 1)
		l.sim.Delete("deployments", "shop", "api")
		l.wait(time.Second)
		l.tells("0.0 listing", "0.0 synced api,web", "0.0 watching", "1.0 changed web", "1.0 changed new", "1.0 deleted api")
		l.asked("0.0 list", "0.0 watch")
		q := l.sim.Requests()[1].Query
		if q.Get("allowWatchBookmarks") != "true" || q.Get("timeoutSeconds") != "270" || q.Get("resourceVersion") == "" {
			l.Errorf("watched with %v", q)
		}
		if h := l.sim.Requests()[0].Header.Get("Accept"); h != "application/json" {
			l.Errorf("Accept %q", h)
		}
	})
}

func TestFollowSurvives(t *testing.T) {
	status := func(code, after int) kubesim.Fault {
		return kubesim.Fault{Kind: kubesim.Status, Verb: "watch", Code: code, RetryAfter: after, Times: 1}
	}
	cases := []struct {
		name    string
		disturb func(*kubesim.Sim)
		asked   []string // after the disturbance at second 10
	}{
		{"regular end", (*kubesim.Sim).EndWatches, []string{"10.0 watch"}},
		{"cut connection", (*kubesim.Sim).DropWatches, []string{"10.0 watch"}},
		{"expired, as an event", func(s *kubesim.Sim) { s.FailWatches(410, 0) }, []string{"10.0 list", "10.0 watch"}},
		{
			"expired, as an answer", func(s *kubesim.Sim) { s.Inject(status(410, 0)); s.EndWatches() },
			[]string{"10.0 watch", "10.0 list", "10.0 watch"},
		},
		// The first retry of a healthy stream is immediate and meets the answer.
		{"429 asks for 7 s", func(s *kubesim.Sim) { s.Inject(status(429, 7)); s.EndWatches() }, []string{"10.0 watch", "17.0 watch"}},
		{"504 asks for 1 s", func(s *kubesim.Sim) { s.Inject(status(504, 1)); s.EndWatches() }, []string{"10.0 watch", "11.0 watch"}},
		{"429 as an event", func(s *kubesim.Sim) { s.FailWatches(429, 4) }, []string{"14.0 watch"}},
		{"500 as an event", func(s *kubesim.Sim) { s.FailWatches(500, 0) }, []string{"10.0 watch"}},
		// 1 s + half of what is left to 4 s: the second failure in a row.
		{"500", func(s *kubesim.Sim) { s.Inject(status(500, 0)); s.EndWatches() }, []string{"10.0 watch", "12.5 watch"}},
		{"a proxy's 403", func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.HTML, Verb: "watch", Code: 403, Times: 1})
			s.EndWatches()
		}, []string{"10.0 watch", "12.5 watch"}},
		{"a proxy's login page", func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.HTML, Verb: "watch", Code: 200, Times: 1})
			s.EndWatches()
		}, []string{"10.0 watch", "12.5 watch"}},
		{"401 once", func(s *kubesim.Sim) { s.Inject(status(401, 0)); s.EndWatches() }, []string{"10.0 watch", "10.2 watch"}},
		// After three watches that gave nothing the server is asked for everything.
		{"half an event", func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.Cut, Verb: "watch", Times: 2})
			s.EndWatches()
		}, []string{"10.0 watch", "12.5 watch", "17.0 list", "17.0 watch"}},
		{
			"down for 5 s", func(s *kubesim.Sim) { s.Down(5 * time.Second) },
			[]string{"10.0 watch", "12.5 watch", "17.0 list", "17.0 watch"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			follow(t, kube.Query{}, nil, func(l *lab) {
				l.wait(10 * time.Second)
				c.disturb(l.sim)
				synctest.Wait()
				l.sim.Put("deployments", deployment("web", 7)) // while nobody watches
				l.wait(20 * time.Second)
				l.change("api", 7)
				l.asked(append([]string{"0.0 list", "0.0 watch"}, c.asked...)...)
				if l.sink.have["web"] != "1004" || l.sink.have["api"] != "1005" {
					l.Errorf("knows %v; %v", l.sink.have, l.sink.story())
				}
				if l.sink.state.Mode != kube.Watching || l.sink.state.Err != nil {
					l.Errorf("state %v", l.sink.state)
				}
				if h := l.c.Health(); !h.FailingSince.IsZero() || !h.AnyGood {
					l.Errorf("health %+v", h)
				}
			})
		})
	}
}

func TestFollowTakesVersionsFromBookmarks(t *testing.T) {
	follow(t, kube.Query{Labels: "app=web"}, nil, func(l *lab) {
		l.wait(30 * time.Second)
		l.change("api", 2) // not selected: only a bookmark tells its version
		l.wait(40 * time.Second)
		l.sim.Compact()
		l.sim.EndWatches()
		l.wait(time.Second)
		l.asked("0.0 list", "0.0 watch", "70.0 watch")
		if rv := l.sim.Requests()[2].Query.Get("resourceVersion"); rv != "1004" {
			l.Errorf("watched again from %s", rv)
		}
	})
}

func TestFollowEndsAtTheTimeLimit(t *testing.T) {
	follow(t, kube.Query{}, nil, func(l *lab) {
		l.wait(9 * time.Minute)
		l.asked("0.0 list", "0.0 watch", "270.0 watch", "540.0 watch")
		l.tells("0.0 listing", "0.0 synced api,web", "0.0 watching")
	})
}

// A server that keeps a stream open and says nothing is asked anew: it may be
// half a connection.
func TestFollowLeavesASilentStream(t *testing.T) {
	follow(t, kube.Query{}, nil, func(l *lab) {
		l.wait(time.Second)
		l.sim.Deafen()
		l.change("web", 2)
		l.wait(121 * time.Second)
		l.asked("0.0 list", "0.0 watch", "120.0 watch")
		if l.sink.have["web"] != "1004" {
			l.Errorf("knows %v", l.sink.have)
		}
	})
}

func TestFollowChecksAQuietTarget(t *testing.T) {
	q := kube.Query{Name: "web"}
	t.Run("all is well", func(t *testing.T) {
		follow(t, q, nil, func(l *lab) {
			l.wait(65 * time.Second) // the bookmark at 60 s is a sign of life
			l.asked("0.0 list", "0.0 watch", "30.0 get", "60.0 get")
			if sel := l.sim.Requests()[1].Query.Get("fieldSelector"); sel != "metadata.name=web" {
				l.Errorf("selector %q", sel)
			}
		})
	})
	t.Run("deaf", func(t *testing.T) {
		follow(t, q, nil, func(l *lab) {
			pods := newSink()
			ctx, cancel := context.WithCancel(l.Context())
			go func() { _ = l.c.Follow(ctx, kube.Core("pods"), "shop", kube.Query{}, pods) }()
			l.wait(time.Second)
			l.sim.Deafen()
			l.sim.Put("pods", kubesim.Object{"metadata": kubesim.Object{"namespace": "shop", "name": "web-1"}})
			l.change("web", 2)
			l.wait(time.Second)
			l.change("web", 3)
			l.wait(30 * time.Second)
			l.tells("0.0 listing", "0.0 synced web", "0.0 watching", "31.0 changed web")
			if l.sink.have["web"] != "1006" {
				l.Errorf("knows %v", l.sink.have)
			}
			// The other streams are started anew as well, and miss nothing.
			if got := pods.story(); got[len(got)-1] != "31.0 changed web-1" {
				l.Errorf("pods: %v", got)
			}
			cancel()
			synctest.Wait()
		})
	})
	t.Run("deaf when it was deleted", func(t *testing.T) {
		follow(t, q, nil, func(l *lab) {
			l.wait(time.Second)
			l.sim.Deafen()
			l.sim.Delete("deployments", "shop", "web")
			l.wait(40 * time.Second)
			l.tells("0.0 listing", "0.0 synced web", "0.0 watching", "31.0 deleted web")
		})
	})
	t.Run("nothing answers", func(t *testing.T) {
		follow(t, q, nil, func(l *lab) {
			l.wait(time.Second)
			l.sim.Deafen()
			remove := l.sim.Inject(kubesim.Fault{Kind: kubesim.Silent})
			l.wait(45 * time.Second)
			if h := l.c.Health(); h.FailingSince.IsZero() || h.LastGood.After(h.FailingSince) {
				l.Errorf("health %+v", h)
			}
			remove()
			l.change("web", 2)
			l.wait(90 * time.Second)
			if l.sink.have["web"] != "1004" {
				l.Errorf("knows %v: %v", l.sink.have, l.sink.story())
			}
		})
	})
	t.Run("may not be fetched", func(t *testing.T) {
		follow(t, q, func(s *kubesim.Sim) string {
			return s.AddUser(kubesim.User{Name: "u", Deny: []kubesim.Rule{{Verbs: []string{"get"}}}}).Token
		}, func(l *lab) {
			l.wait(200 * time.Second)
			l.asked("0.0 list", "0.0 watch", "30.0 get", "30.5 get")
		})
	})
}

func TestFollowRelistsOnceASecond(t *testing.T) {
	follow(t, kube.Query{}, func(s *kubesim.Sim) string {
		s.Inject(kubesim.Fault{Kind: kubesim.StatusEvent, Verb: "watch", Code: 410, Times: 3})
		return ""
	}, func(l *lab) {
		l.wait(10 * time.Second)
		l.asked("0.0 list", "0.0 watch", "1.0 list", "1.0 watch", "2.0 list", "2.0 watch", "3.0 list", "3.0 watch")
	})
}

// A server that ends every stream at once is not asked in a tight loop.
func TestFollowBacksOff(t *testing.T) {
	follow(t, kube.Query{}, func(s *kubesim.Sim) string {
		s.Inject(kubesim.Fault{Kind: kubesim.Empty, Verb: "watch"})
		return ""
	}, func(l *lab) {
		l.wait(60 * time.Second)
		l.asked("0.0 list", "0.0 watch", "0.0 watch", "2.5 watch", "7.0 list", "7.0 watch",
			"12.5 watch", "18.0 watch", "23.5 list", "23.5 watch", "29.0 watch", "34.5 watch",
			"40.0 list", "40.0 watch", "45.5 watch", "51.0 watch", "56.5 list", "56.5 watch")
		if l.sink.state.Err != nil || l.c.Health().LastGood.IsZero() {
			l.Errorf("state %v", l.sink.state)
		}
	})
	follow(t, kube.Query{}, func(s *kubesim.Sim) string {
		s.Inject(kubesim.Fault{Kind: kubesim.StatusEvent, Verb: "watch", Code: 410})
		return ""
	}, func(l *lab) {
		l.wait(60 * time.Second)
		if n := l.sim.Count("list", ""); n > 16 {
			l.Errorf("%d lists in a minute", n)
		}
	})
}

func TestFollowTheFirstListFails(t *testing.T) {
	follow(t, kube.Query{}, func(s *kubesim.Sim) string {
		s.Down(20 * time.Second)
		return ""
	}, func(l *lab) {
		l.wait(40 * time.Second)
		// 1.5, 2.5, 4.5, then 5.5 each: half of 2, 4, 8 and 10.
		l.asked("0.0 list", "1.5 list", "4.0 list", "8.5 list", "14.0 list", "19.5 list", "25.0 list", "25.0 watch")
		l.tells("0.0 listing", "0.0 listing trouble", "25.0 synced api,web", "25.0 watching")
	})
}

func TestFollowIgnoresAnOlderState(t *testing.T) {
	stale := kubesim.Fault{Kind: kubesim.Stale, Verb: "list", Behind: 2}
	follow(t, kube.Query{}, nil, func(l *lab) {
		l.wait(10 * time.Second)
		l.change("web", 2)
		l.change("web", 3)
		stale.Times = 2
		l.sim.Inject(stale)
		l.sim.FailWatches(410, 0)
		l.wait(20 * time.Second)
		l.asked("0.0 list", "0.0 watch", "10.0 list", "12.5 list", "17.0 list", "17.0 watch")
	})
	// When the server really was set back, it is believed in the end.
	follow(t, kube.Query{}, nil, func(l *lab) {
		l.wait(10 * time.Second)
		l.change("web", 2)
		l.change("web", 3)
		stale.Times = 0
		l.sim.Inject(stale)
		l.sim.FailWatches(410, 0)
		l.wait(60 * time.Second)
		if n := l.sim.Count("watch", ""); n < 2 {
			l.Errorf("never watched again: %v", l.sink.story())
		}
		l.sink.back = nil
	})
}

func TestFollowFiltersAgain(t *testing.T) {
	follow(t, kube.Query{Labels: "app=web"}, func(s *kubesim.Sim) string {
		s.IgnoreSelectors(true)
		return ""
	}, func(l *lab) {
		l.change("api", 2)
		l.change("web", 2)
		l.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
			o["metadata"].(kubesim.Object)["labels"] = kubesim.Object{"app": "other"}
		})
		l.wait(time.Second)
		l.tells("0.0 listing", "0.0 synced web", "0.0 watching", "0.0 changed web", "0.0 deleted web")
	})
	follow(t, kube.Query{Name: "web"}, func(s *kubesim.Sim) string {
		s.IgnoreSelectors(true)
		return ""
	}, func(l *lab) {
		l.change("api", 2)
		l.sim.Delete("deployments", "shop", "api")
		l.wait(time.Second)
		l.tells("0.0 listing", "0.0 synced web", "0.0 watching")
	})
}

func TestFollowKeepTrims(t *testing.T) {
	keep := func(o *kube.Object) bool {
		o.Value, o.Raw = len(o.Raw), nil
		return o.Name != "api"
	}
	follow(t, kube.Query{Keep: keep}, nil, func(l *lab) {
		l.change("web", 2)
		l.change("api", 2)
		l.wait(time.Second)
		l.tells("0.0 listing", "0.0 synced web", "0.0 watching", "0.0 changed web")
	})
}

func TestFollowRefused(t *testing.T) {
	deny := func(verbs ...string) func(*kubesim.Sim) string {
		return func(s *kubesim.Sim) string {
			return s.AddUser(kubesim.User{Name: "u", Deny: []kubesim.Rule{{Verbs: verbs}}}).Token
		}
	}
	t.Run("watch: a list every 2 s", func(t *testing.T) {
		follow(t, kube.Query{}, deny("watch"), func(l *lab) {
			l.wait(3 * time.Second)
			l.change("web", 2)
			l.wait(2 * time.Second)
			l.sim.Delete("deployments", "shop", "api")
			l.wait(2 * time.Second)
			l.asked("0.0 list", "0.0 watch", "0.5 watch", "1.0 list", "3.0 list", "5.0 list", "7.0 list")
			l.tells("0.0 listing", "0.0 synced api,web", "0.0 watching", "1.0 polling-list refused",
				"5.0 synced api,web", "7.0 synced web")
			if !kube.IsForbidden(l.sink.state.Refused) {
				l.Errorf("refused: %v", l.sink.state.Refused)
			}
		})
	})
	t.Run("list of one: a GET every 2 s", func(t *testing.T) {
		follow(t, kube.Query{Name: "web"}, deny("watch", "list"), func(l *lab) {
			l.wait(time.Second)
			l.change("web", 2)
			l.wait(2 * time.Second)
			l.sim.Delete("deployments", "shop", "web")
			l.wait(4 * time.Second)
			l.asked("0.0 list", "0.5 list", "0.5 get", "2.5 get", "4.5 get", "6.5 get")
			l.tells("0.0 listing", "0.5 synced web", "0.5 polling-get refused", "2.5 synced web", "4.5 synced ")
		})
	})
	ends := func(name string, q kube.Query, prepare func(*kubesim.Sim) string, within time.Duration, want string) {
		t.Run(name, func(t *testing.T) {
			follow(t, q, prepare, func(l *lab) {
				l.wait(within)
				select {
				case err := <-l.err:
					if err == nil || err.Error() != want || !kube.IsDenied(err) {
						l.Errorf("ended with %v", err)
					}
					l.err <- err
				default:
					l.Errorf("goes on: %v", l.sink.story())
				}
			})
		})
	}
	const cannot = `403: deployments.apps is forbidden: User "u" cannot list resource "deployments" in API group "apps" in the namespace "shop"`
	ends("list", kube.Query{}, deny("list"), 2*time.Second, "list deployments.apps in shop: "+cannot)
	ends("list and get of one", kube.Query{Name: "web"}, deny("list", "get"), 2*time.Second,
		`get deployments.apps web in shop: 403: deployments.apps "web" is forbidden: User "u" cannot get resource "deployments" in API group "apps" in the namespace "shop"`)
	ends("credentials", kube.Query{}, func(*kubesim.Sim) string { return "wrong" }, 2*time.Second,
		"list deployments.apps in shop: 401: Unauthorized")
	t.Run("credentials, later", func(t *testing.T) {
		follow(t, kube.Query{}, func(s *kubesim.Sim) string { return s.AddUser(kubesim.User{Name: "u"}).Token }, func(l *lab) {
			l.wait(time.Minute)
			l.sim.RemoveUser("u-token")
			l.sim.EndWatches()
			l.wait(2 * time.Second)
			select {
			case err := <-l.err:
				if !kube.IsDenied(err) {
					l.Errorf("ended with %v", err)
				}
				l.err <- err
			default:
				l.Error("goes on")
			}
		})
	})
}

func TestFollowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := kubesim.New(kubesim.Options{})
		defer sim.Close()
		sim.Inject(kubesim.Fault{Kind: kubesim.Silent, Verb: "list"})
		c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
		mine := errors.New("mine")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, mine)
		defer cancel()
		start := time.Now()
		err := c.Follow(ctx, kube.Apps("deployments"), "shop", kube.Query{}, newSink())
		if !errors.Is(err, mine) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A minute on one Deployment with an event a second.
func TestFollowFootprint(t *testing.T) {
	follow(t, kube.Query{Name: "web"}, nil, func(l *lab) {
		for _, r := range []kube.Resource{kube.Apps("replicasets"), kube.Core("pods")} {
			go func() { _ = l.c.Follow(l.Context(), r, "shop", kube.Query{Labels: "app=web"}, newSink()) }()
		}
		for i := range 60 {
			l.change("web", i)
			l.sim.Put("pods", kubesim.Object{"metadata": kubesim.Object{
				"namespace": "shop", "name": fmt.Sprint("web-", i%5), "labels": kubesim.Object{"app": "web"},
			}})
			l.wait(time.Second)
		}
		lists, watches, all := l.sim.Count("list", ""), l.sim.Count("watch", ""), l.sim.Count("", "")
		if lists > 4 || watches > 4 || all > 6 {
			l.Errorf("%d lists, %d watches, %d in all", lists, watches, all)
		}
		l.Logf("%d lists, %d watches, %d in all", lists, watches, all)
		l.sim.Close()
		l.end()
	})
}
