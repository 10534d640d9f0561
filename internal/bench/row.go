package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// verdict says whether a target was met.
type verdict string

const (
	pass verdict = "PASS"
	miss verdict = "MISS"
	free verdict = "-" // measured for comparison, without a target
)

// row is a line of the table.
type row struct {
	Name     string             `json:"name"`
	What     string             `json:"what"`
	Target   string             `json:"target"`
	Measured string             `json:"measured"`
	Verdict  verdict            `json:"verdict"`
	Beside   string             `json:"beside,omitempty"` // named alternatives in the same run
	Values   map[string]float64 `json:"values"`
}

func judged(ok bool) verdict {
	if ok {
		return pass
	}
	return miss
}

// sample is a set of durations in seconds.
type sample []float64

func (s *sample) add(d time.Duration) { *s = append(*s, d.Seconds()) }

// at returns the p-th percentile by nearest rank; 0 of an empty sample.
func (s sample) at(p float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[max(int(math.Ceil(p/100*float64(len(sorted)))), 1)-1]
}

func (s sample) p50() float64 { return s.at(50) }
func (s sample) p95() float64 { return s.at(95) }

// String gives the median, the 95th percentile and the number.
func (s sample) String() string {
	return fmt.Sprintf("p50 %s  p95 %s  (n=%d)", seconds(s.p50()), seconds(s.p95()), len(s))
}

func (s sample) values(prefix string, into map[string]float64) {
	into[prefix+"p50"], into[prefix+"p95"], into[prefix+"n"] = s.p50(), s.p95(), float64(len(s))
}

func seconds(v float64) string {
	if v < 0.1 {
		return fmt.Sprintf("%.1f ms", v*1000)
	}
	return fmt.Sprintf("%.2f s", v)
}

// times says how many times more b is than a.
func times(a, b float64) string {
	if a <= 0 {
		return ""
	}
	return fmt.Sprintf("%.1fx", b/a)
}

// table formats rows under a header; what does not fit beside the columns
// follows on lines of its own.
func table(rows []row) string {
	head := row{Name: "row", Target: "target", Measured: "measured", Verdict: "verdict"}
	var w [3]int
	for _, r := range append([]row{head}, rows...) {
		for i, c := range []string{r.Name, r.Target, r.Measured} {
			w[i] = max(w[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	line := func(r row) {
		fmt.Fprintf(&b, "%-*s  %-*s  %-*s  %s\n", w[0], r.Name, w[1], r.Target, w[2], r.Measured, r.Verdict)
	}
	line(head)
	for _, r := range rows {
		line(r)
		fmt.Fprintf(&b, "  %s\n", r.What)
		if r.Beside != "" {
			fmt.Fprintf(&b, "  beside it: %s\n", r.Beside)
		}
	}
	return b.String()
}

// readRows reads rows written one per line.
func readRows(name string) ([]row, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var rows []row
	for line := range strings.Lines(string(data)) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}
