package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// hooks is who gets notifications.
type hooks struct {
	status atomic.Int64
	write  func(line string)
}

func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	code := int(h.status.Load())
	h.write(fmt.Sprintf("%d %s %s auth=%q title=%q tags=%q %s", code, r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("Title"), r.Header.Get("Tags"), body))
	w.WriteHeader(code)
}

// cmdHooks: "hooks start" starts a server hooks.example.lan at $HOOKS_DIAL that
// writes what it gets to the file hooks.log; "hooks answer N" has it answer with
// N from now on.
func cmdHooks(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: hooks start|answer N")
	case args[0] == "start":
		log := filepath.Join(w.work, "hooks.log")
		ts.Check(os.WriteFile(log, nil, 0o600))
		w.hooks = &hooks{write: func(line string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				w.t.Error(err)
				return
			}
			_, _ = f.WriteString(line + "\n")
			_ = f.Close()
		}}
		w.hooks.status.Store(http.StatusOK)
		ts.Setenv("HOOKS_DIAL", authority().Serve(w.t, w.hooks, "hooks.example.lan").Addr.String())
	case args[0] == "answer" && len(args) == 2 && w.hooks != nil:
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		w.hooks.status.Store(int64(n))
	default:
		ts.Fatalf("hooks start comes first")
	}
}
