package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
)

// known is a server that knows these repositories by name.
type known struct {
	repos map[string]woodpecker.Repo
	mine  []woodpecker.Repo
	fail  map[string]error // by name, "user", "mine"
	asked []string
}

func (k *known) Lookup(_ context.Context, name string) (woodpecker.Repo, error) {
	k.asked = append(k.asked, name)
	if err := k.fail[name]; err != nil {
		return woodpecker.Repo{}, err
	}
	if r, ok := k.repos[name]; ok {
		return r, nil
	}
	return woodpecker.Repo{}, refusal(http.StatusNotFound)
}

func (k *known) Repo(ctx context.Context, id woodpecker.RepoID) (woodpecker.Repo, error) {
	for _, r := range k.repos {
		if r.ID == id {
			return r, nil
		}
	}
	return k.Lookup(ctx, fmt.Sprint(id))
}

func (k *known) UserRepos(context.Context, string) ([]woodpecker.Repo, error) {
	return k.mine, k.fail["mine"]
}

func (k *known) User(context.Context) (woodpecker.User, error) {
	return woodpecker.User{ID: 1, Login: "ada"}, k.fail["user"]
}

func refusal(status int) error {
	return &woodpecker.APIError{Class: woodpecker.Refused, Status: status, Tries: 3}
}

func TestLocate(t *testing.T) {
	at := func(id woodpecker.RepoID, name, host string) woodpecker.Repo {
		return woodpecker.Repo{ID: id, FullName: name, ForgeURL: "https://" + host + "/" + name, CloneURL: "https://" + host + "/" + name + ".git", CloneURLSSH: "git@ssh." + host + ":" + name + ".git"}
	}
	app, mirror := at(1, "ada/app", "git.example"), at(2, "mirror/app", "mirror.example")
	remote := func(origin, name, host string) pipeline.Candidate {
		return pipeline.Candidate{Origin: "remote " + origin, Name: name, Host: host}
	}
	down := &woodpecker.APIError{Class: woodpecker.Exhausted, Status: 502}
	tests := []struct {
		name   string
		k      known
		of     []pipeline.Candidate
		write  bool
		id     woodpecker.RepoID
		warn   string
		err    string
		denied bool // *RepoError
	}{
		{name: "by name", of: []pipeline.Candidate{{Origin: "--repo", Name: "ada/app"}}, id: 1},
		{name: "by id", of: []pipeline.Candidate{{Origin: "--repo", ID: 2}}, id: 2},
		{name: "by its host", of: []pipeline.Candidate{remote("origin", "ada/app", "GIT.example")}, id: 1},
		{name: "by its ssh host", of: []pipeline.Candidate{remote("origin", "ada/app", "ssh.git.example")}, id: 1},
		{name: "the second remote", of: []pipeline.Candidate{remote("fork", "eve/app", "git.example"), remote("origin", "ada/app", "git.example")}, id: 1},
		{name: "another host first", of: []pipeline.Candidate{remote("origin", "mirror/app", "git.example"), remote("upstream", "ada/app", "git.example")}, id: 1},
		{name: "another host only, to look", of: []pipeline.Candidate{remote("origin", "ada/app", "alias")}, id: 1, warn: "ada/app is known to the server under another host than alias; taken all the same, name it with --repo to be sure"},
		{name: "another host only, to write", of: []pipeline.Candidate{remote("origin", "ada/app", "alias")}, write: true, err: "under another host than alias"},
		{name: "a second forge's", k: known{mine: []woodpecker.Repo{at(9, "ada/app", "second.example")}}, of: []pipeline.Candidate{remote("origin", "ada/app", "second.example")}, write: true, id: 9},
		{name: "the list of a second forge's cannot be had", k: known{fail: map[string]error{"mine": down}}, of: []pipeline.Candidate{remote("origin", "ada/app", "second.example")}, write: true, err: "502"},
		{name: "the list is refused", k: known{fail: map[string]error{"mine": refusal(403)}}, of: []pipeline.Candidate{remote("origin", "ada/app", "second.example")}, id: 1, warn: "another host"},
		{name: "unknown", of: []pipeline.Candidate{remote("fork", "eve/app", "git.example"), {Origin: "--repo", Name: "bob/app"}}, err: "unknown to the server or not readable by ada: eve/app (remote fork): 404; bob/app (--repo): 404", denied: true},
		{name: "unknown id", of: []pipeline.Candidate{{Origin: "--repo", ID: 77}}, err: "repository 77 (--repo): 404", denied: true},
		{name: "a bad token on a public repository", k: known{fail: map[string]error{"user": refusal(401)}}, of: []pipeline.Candidate{{Origin: "--repo", Name: "ada/app"}}, err: "does not accept the token", denied: true},
		{name: "a bad token", k: known{fail: map[string]error{"user": refusal(401), "ada/app": refusal(401)}}, of: []pipeline.Candidate{{Origin: "--repo", Name: "ada/app"}, {Origin: "x", Name: "mirror/app"}}, err: "does not accept the token", denied: true},
		{name: "the server is down", k: known{fail: map[string]error{"ada/app": down}}, of: []pipeline.Candidate{{Origin: "--repo", Name: "ada/app"}}, err: "502"},
		{name: "who it is cannot be told", k: known{fail: map[string]error{"user": down}}, of: []pipeline.Candidate{{Origin: "--repo", Name: "ada/app"}}, err: "502"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.k.repos = map[string]woodpecker.Repo{"ada/app": app, "mirror/app": mirror}
			got, err := pipeline.Locate(t.Context(), &tt.k, tt.of, tt.write)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("%v, want %q", err, tt.err)
			}
			var none *pipeline.RepoError
			if errors.As(err, &none) != tt.denied {
				t.Errorf("%T", err)
			}
			if got.Repo.ID != tt.id || !strings.Contains(got.Warning, tt.warn) || tt.warn == "" && got.Warning != "" || err == nil && got.Login != "ada" {
				t.Errorf("%+v", got)
			}
		})
	}
}
