package woodpecker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

func checkRepo(r Repo) error {
	if r.ID <= 0 || r.FullName == "" {
		return errors.New("a repository without an id or a name")
	}
	return nil
}

// Lookup finds a repository by its full name, which is case-insensitive and
// follows renames, so FullName of the answer may differ. It also makes the
// server store the user's permission, without which private repositories send
// no events.
// Source: GET /api/repos/lookup/{full_name}.
func (c *Client) Lookup(ctx context.Context, fullName string) (Repo, error) {
	path := append(api("repos", "lookup"), strings.Split(fullName, "/")...)
	return get(ctx, c, "repository "+fullName, path, nil, checkRepo)
}

// Repo returns the repository with that id.
// Source: GET /api/repos/{id}.
func (c *Client) Repo(ctx context.Context, id RepoID) (Repo, error) {
	return get(ctx, c, fmt.Sprintf("repository %d", id), api("repos", itoa(int64(id))), nil, func(r Repo) error {
		if r.ID != id {
			return fmt.Errorf("repository %d where %d was asked for", r.ID, id)
		}
		return checkRepo(r)
	})
}

// Permissions returns what the token's user may do with a repository.
// Source: GET /api/repos/{id}/permissions.
func (c *Client) Permissions(ctx context.Context, id RepoID) (Permissions, error) {
	return get[Permissions](ctx, c, fmt.Sprintf("permissions on repository %d", id), api("repos", itoa(int64(id)), "permissions"), nil, nil)
}

// User returns the token's owner. Reads of public repositories succeed with a
// bad token; this call does not. It is asked once per Client: a token that is
// renewed later belongs to the same user.
// Source: GET /api/user.
func (c *Client) User(ctx context.Context) (User, error) {
	c.mu.Lock()
	u := c.user
	c.mu.Unlock()
	if u.Login != "" {
		return u, nil
	}
	u, err := get(ctx, c, "the token's user", api("user"), nil, func(u User) error {
		if u.Login == "" {
			return errors.New("a user without a login")
		}
		return nil
	})
	if err == nil {
		c.mu.Lock()
		c.user = u
		c.mu.Unlock()
	}
	return u, err
}

// UserRepos returns the active repositories the user may push to whose last
// path segment is name. Servers before 3.11 ignore name and return all.
// Source: GET /api/user/repos.
func (c *Client) UserRepos(ctx context.Context, name string) ([]Repo, error) {
	rows, err := get[[]Repo](ctx, c, "the user's repositories", api("user", "repos"), url.Values{"name": {name}}, nil)
	out := rows[:0]
	for _, r := range rows {
		if strings.EqualFold(r.FullName[strings.LastIndexByte(r.FullName, '/')+1:], name) {
			out = append(out, r)
		}
	}
	return out, err
}

// ServerVersion asks the server what it calls itself; no token is needed.
// Source: GET /version, which is not below /api.
func (c *Client) ServerVersion(ctx context.Context) (Version, error) {
	v, err := get[struct {
		Version Version `json:"version"`
	}](ctx, c, "the server's version", []string{"version"}, nil, nil)
	return v.Version, err
}

// Healthz says whether the server and its database are up: nil for 204.
// Source: GET /healthz, which is not below /api.
func (c *Client) Healthz(ctx context.Context) error {
	_, err := c.do(ctx, request{op: "health", method: http.MethodGet, path: []string{"healthz"}, empty: always})
	return err
}

// Queue returns the server's work queue; it needs an administrator's token. It
// is asked once, also after a refusal: nobody depends on it.
// Source: GET /api/queue/info.
func (c *Client) Queue(ctx context.Context) (Queue, error) {
	var q Queue
	err := c.askOnce(ctx, request{op: "the queue", method: http.MethodGet, path: api("queue", "info"), decode: into(&q, nil)})
	return q, err
}
