package config

import "strings"

// nearest returns the known key closest to what was written, "" when none is
// close enough to be what was meant.
func nearest(key string, known []string) string {
	best, limit := "", max(1, len(key)/3)+1
	if len(key) > 64 { // nobody's typing error; keeps the table small
		return ""
	}
	for _, k := range known {
		if d := distance(strings.ToLower(key), k); d < limit {
			best, limit = k, d
		}
	}
	return best
}

// distance is the number of single-byte insertions, deletions, substitutions
// and swaps of neighbours that turn a into b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
