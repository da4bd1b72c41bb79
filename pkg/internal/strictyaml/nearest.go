package strictyaml

import (
	"slices"
	"strings"
)

// Nearest returns the word of the list that was probably meant, or "" when none
// is near: a few letters wrong, or the one entry that has the word as a part.
func Nearest(word string, of []string) string {
	const longest = 128
	if word == "" || len(word) > longest {
		return ""
	}
	w := fold(word)
	best, least := "", len(w)/3+1
	for _, cand := range of {
		if len(cand) > longest {
			continue
		}
		if d := distance(w, fold(cand)); d <= least && d < len(w) && (best == "" || d < least) {
			best, least = cand, d
		}
	}
	if best != "" || len(w) < 3 {
		return best
	}
	for _, cand := range of {
		c := fold(cand)
		part := slices.Contains(strings.FieldsFunc(c, separator), w) || len(c) >= 3 && slices.Contains(strings.FieldsFunc(w, separator), c)
		if part && (best == "" || len(cand) < len(best)) {
			best = cand
		}
	}
	return best
}

func separator(r rune) bool { return strings.ContainsRune("_/.", r) }

func fold(s string) string {
	return strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(s))
}

// distance is the number of letters to insert, delete, change or swap with
// their neighbour (optimal string alignment), over bytes.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// Meant is the hint for a name that is not in a list: `did you mean "x"?`, or
// the whole list when nothing is near and the list is short, or "".
func Meant(word string, known []string) string {
	if n := Nearest(word, known); n != "" {
		return `did you mean "` + n + `"?`
	}
	if len(known) == 0 || len(known) > 16 {
		return ""
	}
	return "known here: " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}
