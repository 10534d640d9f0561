package forge

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"homelab/pkg/poll"
)

// Right is what a forge says of a permission. The zero value is nothing.
type Right int

// What a forge can say.
const (
	Unsaid Right = iota
	Yes
	No
)

// Repository is what a forge says about a repository to whose token asks.
type Repository struct {
	FullName string
	Push     Right
	Mirror   bool // never on GitHub
	Archived bool
}

// Repository returns the repository at path "OWNER/NAME". The error is
// *APIError or ctx's cause. Source: GET /repos/{owner}/{repo}, Forgejo 9,
// Gitea 1.22, GitHub REST 2022-11-28.
func (c *Client) Repository(ctx context.Context, path string) (Repository, error) {
	var r struct {
		FullName    string `json:"full_name"`
		Mirror      bool   `json:"mirror"`
		Archived    bool   `json:"archived"`
		Permissions struct {
			Push *bool `json:"push"`
		} `json:"permissions"`
	}
	if err := c.do(ctx, http.MethodGet, nil, nil, &r, repos(path)...); err != nil {
		return Repository{}, err
	}
	out := Repository{FullName: r.FullName, Mirror: r.Mirror, Archived: r.Archived}
	if push := r.Permissions.Push; push != nil {
		if out.Push = No; *push {
			out.Push = Yes
		}
	}
	return out, nil
}

func repos(path string, more ...string) []string {
	return append(append([]string{"repos"}, strings.Split(path, "/")...), more...)
}

// Pull is a pull request.
type Pull struct {
	Number int64
	URL    string // its page
	State  string // "open", "closed" or "merged"
	Merged bool
	Commit string // the merge's on the base; "" until it is merged
	Head   string // the branch's tip
}

// Wanted is the pull request to be found or made.
type Wanted struct {
	Repo     string // "OWNER/NAME" of the base
	HeadRepo string // of the branch; the same, or a fork's
	Branch   string
	Base     string
	Title    string
	Body     string
}

type row struct {
	Number  int64  `json:"number"`
	State   string `json:"state"`
	Merged  bool   `json:"merged"`
	HTMLURL string `json:"html_url"`
	Commit  string `json:"merge_commit_sha"`
	Head    struct {
		Ref  string `json:"ref"`
		SHA  string `json:"sha"`
		Repo *struct {
			FullName string `json:"full_name"`
		} `json:"repo"`
	} `json:"head"`
	Base struct {
		Ref string `json:"ref"`
	} `json:"base"`
}

func (r row) pull() Pull {
	p := Pull{Number: r.Number, URL: r.HTMLURL, State: r.State, Merged: r.Merged, Head: r.Head.SHA}
	if r.Merged {
		// Before that GitHub names a merge it only tried.
		p.State, p.Commit = "merged", r.Commit
	}
	return p
}

// is says whether an open request is the wanted one. The forge's own filters
// are not trusted with it.
func (r row) is(w Wanted) bool {
	return r.State == "open" && r.Head.Ref == w.Branch && r.Base.Ref == w.Base &&
		r.Head.Repo != nil && strings.EqualFold(r.Head.Repo.FullName, w.HeadRepo)
}

const mostPages = 200

// Find returns the open pull request of a branch; ok is false when there is
// none. Source: GET /repos/{owner}/{repo}/pulls. Not /pulls/{base}/{head} of
// Forgejo: that ignores the state and may return a closed one.
func (c *Client) Find(ctx context.Context, w Wanted) (p Pull, ok bool, err error) {
	query := url.Values{"state": {"open"}}
	if c.kind == GitHub {
		owner, _, _ := strings.Cut(w.HeadRepo, "/")
		query.Set("head", owner+":"+w.Branch)
		query.Set("base", w.Base)
		query.Set("per_page", "100")
	} else {
		query.Set("limit", "50")
	}
	for page := 1; page <= mostPages; page++ {
		query.Set("page", strconv.Itoa(page))
		var rows []row
		if err := c.do(ctx, http.MethodGet, query, nil, &rows, repos(w.Repo, "pulls")...); err != nil {
			return Pull{}, false, err
		}
		for _, r := range rows {
			if r.is(w) {
				return r.pull(), true, nil
			}
		}
		if len(rows) == 0 { // a server may give fewer than asked for
			break
		}
	}
	return Pull{}, false, nil
}

const mostPosts = 3

// Open returns the open pull request of a branch, or makes one. After a reply
// that does not tell what happened it looks before it asks again. The error is
// *APIError: Refused without the right, Rejected with the forge's reason.
// Source: POST /repos/{owner}/{repo}/pulls; 409 (Forgejo, Gitea) and 422
// (GitHub) when it exists.
func (c *Client) Open(ctx context.Context, w Wanted) (Pull, error) {
	head := w.Branch
	if !strings.EqualFold(w.Repo, w.HeadRepo) {
		owner, _, _ := strings.Cut(w.HeadRepo, "/")
		head = owner + ":" + w.Branch
	}
	in := map[string]string{"head": head, "base": w.Base, "title": w.Title, "body": w.Body}
	for try := 1; ; try++ {
		if p, ok, err := c.Find(ctx, w); err != nil || ok {
			return p, err
		}
		var r row
		err := c.do(ctx, http.MethodPost, nil, in, &r, repos(w.Repo, "pulls")...)
		if err == nil {
			return r.pull(), nil
		}
		said, ok := errors.AsType[*APIError](err)
		if !ok {
			return Pull{}, err
		}
		exists := said.Class == Rejected && strings.Contains(strings.ToLower(said.Text), "already exists")
		if said.Class != Unreachable && !exists {
			return Pull{}, err
		}
		if exists {
			return c.existing(ctx, w, said)
		}
		if try == mostPosts {
			if p, ok, look := c.Find(ctx, w); look != nil || ok {
				return p, look
			}
			return Pull{}, err
		}
		if err := poll.Sleep(ctx, unclear); err != nil {
			return Pull{}, err
		}
	}
}

// existing finds the request that the forge says exists. A list may lag behind
// what made it, and the refusal of Forgejo and Gitea names the number.
func (c *Client) existing(ctx context.Context, w Wanted, said *APIError) (Pull, error) {
	for try := 1; ; try++ {
		if p, ok, err := c.Find(ctx, w); err != nil || ok {
			return p, err
		}
		if n, ok := namedNumber(said.Text); ok {
			var r row
			if err := c.do(ctx, http.MethodGet, nil, nil, &r, repos(w.Repo, "pulls", strconv.FormatInt(n, 10))...); err == nil && r.is(w) {
				return r.pull(), nil
			}
		}
		if try == mostPosts {
			return Pull{}, said
		}
		if err := poll.Sleep(ctx, unclear); err != nil {
			return Pull{}, err
		}
	}
}

// namedNumber reads "[id: 12, issue_id: 7, ...]".
func namedNumber(text string) (int64, bool) {
	_, after, ok := strings.Cut(text, "issue_id: ")
	digits := after[:len(after)-len(strings.TrimLeft(after, "0123456789"))]
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, ok && err == nil
}

// Look returns pull request number of the repository at path. Source: GET
// /repos/{owner}/{repo}/pulls/{index}.
func (c *Client) Look(ctx context.Context, path string, number int64) (Pull, error) {
	var r row
	if err := c.do(ctx, http.MethodGet, nil, nil, &r, repos(path, "pulls", strconv.FormatInt(number, 10))...); err != nil {
		return Pull{}, err
	}
	return r.pull(), nil
}
