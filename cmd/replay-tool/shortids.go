package main

import (
	"fmt"
	"math"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/recovery"
)

// shortIDs shows migration ids by their last digits. Version 7 ids that were made at about the same
// time have the same first digits.
type shortIDs struct{ digits int }

// minShortDigits is the smallest number of digits of a short id.
const minShortDigits = 6

// newShortIDs returns the shortest form in which the ids of the decisions differ.
func newShortIDs(decisions []recovery.Decision) shortIDs {
	list := make([]checkpoint.MigrationID, len(decisions))
	for i := range decisions {
		list[i] = decisions[i].MigrationID()
	}
	return shortestIDs(list)
}

// shortestIDs returns the shortest form in which the ids differ.
func shortestIDs(list []checkpoint.MigrationID) shortIDs {
	ids := make(map[checkpoint.MigrationID]bool, len(list))
	for _, id := range list {
		ids[id] = true
	}
	for s := (shortIDs{minShortDigits}); ; s.digits++ {
		seen := make(map[string]bool, len(ids))
		for id := range ids {
			seen[s.of(id)] = true
		}
		if len(seen) == len(ids) {
			return s
		}
	}
}

func (s shortIDs) of(id checkpoint.MigrationID) string {
	digits := fmt.Sprintf("%x", id[:])
	return digits[len(digits)-s.digits:]
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

// age returns a time span with about three digits, such as 978ms, 2.01s, 1m48s, 5h3m or 5d20h.
func age(ms uint64) string {
	s := ms / 1000
	switch {
	case ms < 1000:
		return fmt.Sprintf("%dms", ms)
	case ms < 10_000:
		return fmt.Sprintf("%.2fs", math.Floor(float64(ms)/10)/100)
	case ms < 60_000:
		return fmt.Sprintf("%.1fs", math.Floor(float64(ms)/100)/10)
	case s < 3600:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case s < 86_400:
		return fmt.Sprintf("%dh%dm", s/3600, s/60%60)
	case s < 100*86_400:
		return fmt.Sprintf("%dd%dh", s/86_400, s/3600%24)
	}
	return fmt.Sprintf("%dd", s/86_400)
}
