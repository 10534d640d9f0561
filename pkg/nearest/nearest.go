// Package nearest finds what a mistyped name was probably meant to be. It says
// which names are how near; what to say of that is for who asks.
package nearest

import "strings"

// longest is the longest name that is looked at: what is longer is nobody's
// slip, and would take long.
const longest = 64

// Slips is how many slips a name may have and still be recognised: one in three
// letters, and one at least.
func Slips(name string) int { return max(1, len(name)/3) }

// Of returns the one of known that is nearest to name, upper and lower case
// being the same in name: the first of several, at most slips away and with a
// letter left as it was. "" is none. known is in lower case.
func Of(name string, known []string, slips int) string {
	if len(name) > longest {
		return ""
	}
	best, name := "", strings.ToLower(name)
	for _, k := range known {
		if d := Distance(name, k, slips); d <= slips && d < len(k) {
			best, slips = k, d-1
		}
	}
	return best
}

// Distance is the number of letters to insert, drop, replace or swap with their
// neighbour to make a from b. More than limit is limit+1.
func Distance(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if len(x)-len(y) > limit || len(y)-len(x) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := range x {
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(y)], limit+1)
}
