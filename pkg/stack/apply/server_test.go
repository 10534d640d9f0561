package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"homelab/pkg/kube"
)

// server is an API server that keeps objects and knows nothing of them: an
// apply is a merge. What real ones do is tested on a real one.
type server struct {
	t *testing.T

	mu      sync.Mutex
	objects map[string]object // by path
	writes  []string          // METHOD path, dry runs left out
	reads   []string
	// fault may answer instead: before the request takes effect, or after it.
	fault func(req *http.Request, after bool) (*http.Response, error)
	uids  int
}

func (s *server) client() *kube.Cluster {
	if s.objects == nil {
		s.objects = map[string]object{}
	}
	return kube.New(&url.URL{Scheme: "https", Host: "cluster"}, s, kube.Options{Random: func() float64 { return 0 }})
}

func answer(code int, v any) *http.Response {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(raw)), ContentLength: int64(len(raw)),
	}
}

func refusal(code int, message string) *http.Response {
	return answer(code, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code})
}

func html(code int) *http.Response {
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"text/html"}},
		Body: io.NopCloser(strings.NewReader("<html>sorry</html>")),
	}
}

func (s *server) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		if res, err := s.fault(req, false); res != nil || err != nil {
			return res, err
		}
	}
	res := s.serve(req)
	if s.fault != nil {
		if res, err := s.fault(req, true); res != nil || err != nil {
			return res, err
		}
	}
	return res, nil
}

func (s *server) serve(req *http.Request) *http.Response {
	var body object
	if req.Body != nil {
		raw, err := io.ReadAll(req.Body)
		if err != nil {
			return refusal(400, err.Error())
		}
		if len(raw) > 0 && utiljson.Unmarshal(raw, &body) != nil {
			return refusal(400, "no object: "+string(raw))
		}
	}
	path := req.URL.Path
	dry := req.URL.Query().Get("dryRun") != ""
	if req.Method == http.MethodGet {
		s.reads = append(s.reads, path)
	} else if !dry {
		s.writes = append(s.writes, req.Method+" "+path)
	}
	have := s.objects[path]
	switch req.Method {
	case http.MethodGet:
		if have != nil {
			return answer(200, have)
		}
		last := path[strings.LastIndexByte(path, '/')+1:]
		if slices.ContainsFunc(append(kinds(), kind{resource: kube.Resource{Plural: "horizontalpodautoscalers"}}, kind{resource: kube.Resource{Plural: "storageclasses"}}),
			func(k kind) bool { return k.resource.Plural == last }) {
			items := []any{}
			for _, p := range slices.Sorted(maps.Keys(s.objects)) {
				if strings.HasPrefix(p, path+"/") {
					items = append(items, s.objects[p])
				}
			}
			return answer(200, object{"kind": "List", "apiVersion": "v1", "metadata": object{"resourceVersion": "1"}, "items": items})
		}
		return refusal(404, "not found")
	case http.MethodPatch:
		now := (&unstructured.Unstructured{Object: object{}}).Object
		if have != nil {
			now = (&unstructured.Unstructured{Object: have}).DeepCopy().Object
		}
		overlay(now, body)
		s.stamp(now)
		if !dry {
			s.objects[path] = now
		}
		return answer(200, now)
	case http.MethodPost:
		path += "/" + fmt.Sprint(at(body, "metadata", "name"))
		if s.objects[path] != nil {
			return refusal(409, "already exists")
		}
		s.stamp(body)
		s.objects[path] = body
		return answer(201, body)
	case http.MethodPut:
		s.objects[path] = body
		return answer(200, body)
	case http.MethodDelete:
		if have == nil {
			return refusal(404, "not found")
		}
		delete(s.objects, path)
		return answer(200, object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	}
	return refusal(405, "what?")
}

func (s *server) stamp(o object) {
	if at(o, "metadata", "uid") == nil {
		s.uids++
		o["metadata"].(object)["uid"] = fmt.Sprintf("uid-%d", s.uids)
		o["metadata"].(object)["resourceVersion"] = fmt.Sprint(s.uids)
	}
}

var errCut = errors.New("connection reset by peer")

// parse makes an object of JSON.
func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return o
}
