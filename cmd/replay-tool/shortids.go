package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/recovery"
)

// shortIDs shows migration ids by their last digits. Version 7 ids that were made at about the same
// time have the same first digits. idSearch finds an id by its short form.
type shortIDs struct {
	byEnd map[[minShortDigits / 2]byte][]checkpoint.MigrationID // by the last bytes
}

// minShortDigits is the smallest number of digits of a short id.
const minShortDigits = 6

// newShortIDs returns the short forms of the ids of the decisions.
func newShortIDs(decisions []recovery.Decision) shortIDs {
	list := make([]checkpoint.MigrationID, len(decisions))
	for i := range decisions {
		list[i] = decisions[i].MigrationID()
	}
	return shortestIDs(list)
}

// shortestIDs returns the shortest forms in which the ids differ.
func shortestIDs(list []checkpoint.MigrationID) shortIDs {
	s := shortIDs{map[[minShortDigits / 2]byte][]checkpoint.MigrationID{}}
	for _, id := range list {
		s.add(id)
	}
	return s
}

// add adds an id. A short form that was returned before may not be unique any more.
func (s shortIDs) add(id checkpoint.MigrationID) {
	end := endOf(id)
	for _, other := range s.byEnd[end] {
		if other == id {
			return
		}
	}
	s.byEnd[end] = append(s.byEnd[end], id)
}

func endOf(id checkpoint.MigrationID) (end [minShortDigits / 2]byte) {
	copy(end[:], id[len(id)-len(end):])
	return end
}

// of returns the short form of an id. No other id that was added has this end.
func (s shortIDs) of(id checkpoint.MigrationID) string {
	all := hex.EncodeToString(id[:])
	digits := minShortDigits
	for _, other := range s.byEnd[endOf(id)] {
		if other != id {
			digits = max(digits, 1+commonEnd(all, hex.EncodeToString(other[:])))
		}
	}
	return all[len(all)-digits:]
}

// commonEnd returns the number of equal characters at the ends of two texts.
func commonEnd(a, b string) (n int) {
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// maxListedIDs is the largest number of ids that a list names.
const maxListedIDs = 2

// list names the first ids of a list, and the number of the others.
func (s shortIDs) list(ids []checkpoint.MigrationID) string {
	var names []string
	for i, id := range ids {
		if i == maxListedIDs {
			return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), len(ids)-i)
		}
		names = append(names, s.of(id))
	}
	return strings.Join(names, ", ")
}
