package woodpecker

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"homelab/pkg/transport"
)

// What an answer to a write is worth.
func TestWriteAnswers(t *testing.T) {
	calls := map[string]func(context.Context, *Client) error{
		"start":   func(ctx context.Context, c *Client) error { _, err := c.Start(ctx, 1, "main"); return err },
		"restart": func(ctx context.Context, c *Client) error { _, err := c.Restart(ctx, 1, 57); return err },
		"cancel":  func(ctx context.Context, c *Client) error { return c.Cancel(ctx, 1, 57) },
		"approve": func(ctx context.Context, c *Client) error { _, err := c.Approve(ctx, 1, 57); return err },
		"decline": func(ctx context.Context, c *Client) error { _, err := c.Decline(ctx, 1, 57); return err },
	}
	row := `{"id":9,"number":57,"status":"pending"}`
	tests := []struct {
		name   string
		status int
		kind   string
		body   string
		header []string
		proxy  bool     // without the version header
		good   []string // whose answer it is; all others are in doubt
	}{
		{name: "a row", status: 200, kind: jsonType, body: row, good: []string{"start", "restart", "approve", "decline"}},
		{name: "another row", status: 200, kind: jsonType, body: strings.Replace(row, "57", "58", 1), good: []string{"start", "restart"}},
		{name: "a row of a proxy", status: 200, kind: jsonType, body: row, proxy: true},
		{name: "204", status: 204, good: []string{"cancel"}},
		{name: "204, filtered", status: 204, header: []string{"Pipeline-Filtered", "true"}, good: []string{"cancel", "start"}},
		{name: "204 of a proxy", status: 204, header: []string{"Pipeline-Filtered", "true"}, proxy: true},
		{name: "the web page", status: 200, kind: htmlType, body: "<!doctype html>"},
		{name: "a page of a proxy", status: 200, kind: htmlType, body: "<form>", proxy: true},
		{name: "too much", status: 200, kind: jsonType, body: `"` + strings.Repeat("x", 9<<20) + `"`},
		{name: "a redirect", status: 302, header: []string{"Location", "https://login.example/"}},
	}
	for _, tt := range tests {
		for name, call := range calls {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				sent := 0
				c := client(t, "https://ci.example", func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodGet {
						return answer(r, 200, jsonType, `{"id":1,"login":"ada"}`), nil
					}
					sent++
					if tt.status == 302 {
						return nil, &transport.RedirectError{Status: 302, Host: "login.example", Reason: "never"}
					}
					x := answer(r, tt.status, tt.kind, tt.body)
					for i := 0; i < len(tt.header); i += 2 {
						x.Header.Set(tt.header[i], tt.header[i+1])
					}
					if tt.proxy {
						x.Header.Del(versionHeader)
					}
					return x, nil
				})
				if _, err := c.User(t.Context()); err != nil {
					t.Fatal(err)
				}
				err := call(t.Context(), c)
				good := slices.Contains(tt.good, name)
				var api *APIError
				switch {
				case sent != 1:
					t.Errorf("sent %d times", sent)
				case good && err != nil:
					t.Error(err)
				case !good && (!errors.As(err, &api) || api.Class != Doubtful):
					t.Errorf("%v, want doubt", err)
				}
			})
		}
	}
}

// A pass without its workflows is half an answer.
func TestSuccessNeedsWorkflows(t *testing.T) {
	for body, good := range map[string]bool{
		`{"id":9,"number":57,"status":"success"}`:                  false,
		`{"id":9,"number":57,"status":"success","workflows":null}`: false,
		`{"id":9,"number":57,"status":"success","workflows":[]}`:   true, // for the caller to judge
		`{"id":9,"number":57,"status":"error"}`:                    true,
		`{"id":9,"number":57,"status":"created"}`:                  true,
	} {
		tries := 0
		c := client(t, "https://ci.example", func(r *http.Request) (*http.Response, error) {
			if tries++; tries > 1 {
				return answer(r, 200, jsonType, `{"id":9,"number":57,"status":"success","workflows":[{"name":"a"}]}`), nil
			}
			return answer(r, 200, jsonType, body), nil
		})
		if _, err := c.Pipeline(t.Context(), 1, 57); err != nil || (tries == 1) != good {
			t.Errorf("%s: %v after %d tries", body, err, tries)
		}
	}
}
