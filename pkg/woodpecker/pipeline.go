package woodpecker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"homelab/pkg/transport"
)

// ListOptions narrows a list; zero values do not. There is no filter for a
// commit: callers scan.
type ListOptions struct {
	Page    int // from 1; 0 means 1
	PerPage int // 1 to 50; 0 means 20
	Branch  string
	Events  []Event
}

const smallPage = 5 // rows asked for at once when a page exceeds the size limit

func pipelines(id RepoID, more ...string) []string {
	return append(api("repos", itoa(int64(id)), "pipelines"), more...)
}

// Pipelines returns one page of a repository's rows, highest number first,
// without workflows. A page that exceeds the size limit (rows carry changed
// files) is read again in small pieces.
// Source: GET /api/repos/{id}/pipelines. The parameter is perPage; per_page is
// ignored by the server.
func (c *Client) Pipelines(ctx context.Context, id RepoID, o ListOptions) ([]Pipeline, error) {
	page, size := max(o.Page, 1), o.PerPage
	if size <= 0 {
		size = 20
	}
	rows, err := c.page(ctx, id, o, page, size)
	var large *transport.TooLargeError
	if !errors.As(err, &large) || size <= smallPage {
		return rows, err
	}
	first := (page-1)*size/smallPage + 1
	rows = nil
	for p := first; p < first+(size+smallPage-1)/smallPage; p++ {
		part, err := c.page(ctx, id, o, p, smallPage)
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
		if len(part) < smallPage {
			break
		}
	}
	return rows, nil
}

func (c *Client) page(ctx context.Context, id RepoID, o ListOptions, page, size int) ([]Pipeline, error) {
	q := url.Values{"page": {strconv.Itoa(page)}, "perPage": {strconv.Itoa(size)}}
	if o.Branch != "" {
		q.Set("branch", o.Branch)
	}
	if len(o.Events) > 0 {
		names := make([]string, len(o.Events))
		for i, e := range o.Events {
			names[i] = string(e)
		}
		q.Set("event", strings.Join(names, ","))
	}
	return get(ctx, c, "the list of pipelines", pipelines(id), q, func(rows []Pipeline) error {
		for _, r := range rows {
			if r.ID <= 0 || r.Number <= 0 {
				return errors.New("a pipeline without an id or a number")
			}
		}
		return nil
	})
}

// Pipeline returns pipeline number (counted per repository, from 1) with its
// workflows and steps. The error is *APIError (Refused after confirmation,
// else Exhausted) or ctx's cause. List rows carry no workflows; this does.
// Source: GET /api/repos/{id}/pipelines/{number}.
func (c *Client) Pipeline(ctx context.Context, id RepoID, number int64) (Pipeline, error) {
	return get(ctx, c, fmt.Sprintf("pipeline %d", number), pipelines(id, itoa(number)), nil, func(p Pipeline) error {
		if err := checkRow(p, number); err != nil {
			return err
		}
		// Of a pass every workflow is known: without the list, part of the
		// answer is missing.
		if p.Status == Success && p.Workflows == nil {
			return errors.New("a pipeline that passed, without its workflows")
		}
		return nil
	})
}

func checkRow(p Pipeline, number int64) error {
	if p.ID <= 0 || p.Number <= 0 || p.Status == "" {
		return errors.New("a pipeline without an id, a number or a status")
	}
	if number > 0 && p.Number != number {
		return fmt.Errorf("pipeline %d where %d was asked for", p.Number, number)
	}
	return nil
}

// send sends a POST once. The error is *APIError: Refused or Rejected as
// answered this once, Doubtful when it may have taken effect, which is also
// what an answer is that comes from something in front of the server.
func (c *Client) send(ctx context.Context, r request) error {
	known := c.sawVersion()
	r.method = http.MethodPost
	header, err := c.do(ctx, r)
	if err == nil && known && header.Get(versionHeader) == "" {
		return &APIError{Op: r.op, Class: Doubtful, Err: errors.New("an answer without the server's version, a proxy answers")}
	}
	return err
}

// write sends a POST whose answer is a row, with that number; 0: a new one. A
// row comes back when the server returned one, nil on a 204 that empty allows.
func (c *Client) write(ctx context.Context, op string, path []string, body any, number int64, empty func(http.Header) bool) (*Pipeline, error) {
	var row Pipeline
	err := c.send(ctx, request{
		op: op, path: path, body: body, empty: empty,
		decode: into(&row, func(p Pipeline) error { return checkRow(p, number) }),
	})
	if err != nil || row.ID == 0 {
		return nil, err
	}
	return &row, nil
}

func always(http.Header) bool { return true }

// Start starts a manual pipeline of branch's head as the forge sees it. The
// row is nil when everything was filtered out. A 204 that does not say so is
// Doubtful: the server also answers it when a row was made and went wrong.
// Source: POST /api/repos/{id}/pipelines; 204 with Pipeline-Filtered.
func (c *Client) Start(ctx context.Context, id RepoID, branch string) (*Pipeline, error) {
	body := map[string]any{"branch": branch, "variables": map[string]string{}}
	filtered := func(h http.Header) bool { return h.Get("Pipeline-Filtered") == "true" }
	return c.write(ctx, "a manual pipeline of "+branch, pipelines(id), body, 0, filtered)
}

// Restart starts number anew and returns the new row. Query parameters would
// become build variables, so none are sent.
// Source: POST /api/repos/{id}/pipelines/{number}.
func (c *Client) Restart(ctx context.Context, id RepoID, number int64) (*Pipeline, error) {
	return c.write(ctx, fmt.Sprintf("restart of pipeline %d", number), pipelines(id, itoa(number)), nil, 0, nil)
}

// Cancel ends an active pipeline.
// Source: POST /api/repos/{id}/pipelines/{number}/cancel.
func (c *Client) Cancel(ctx context.Context, id RepoID, number int64) error {
	return c.send(ctx, request{op: fmt.Sprintf("cancelling pipeline %d", number), path: pipelines(id, itoa(number), "cancel"), empty: always})
}

// Approve lets a blocked pipeline run and returns its row as the server
// answered it. A second approval is Rejected (400).
// Source: POST /api/repos/{id}/pipelines/{number}/approve.
func (c *Client) Approve(ctx context.Context, id RepoID, number int64) (*Pipeline, error) {
	return c.write(ctx, fmt.Sprintf("approving pipeline %d", number), pipelines(id, itoa(number), "approve"), nil, number, nil)
}

// Decline ends a blocked pipeline and returns its row as the server answered
// it.
// Source: POST /api/repos/{id}/pipelines/{number}/decline.
func (c *Client) Decline(ctx context.Context, id RepoID, number int64) (*Pipeline, error) {
	return c.write(ctx, fmt.Sprintf("declining pipeline %d", number), pipelines(id, itoa(number), "decline"), nil, number, nil)
}
