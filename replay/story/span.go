package story

import "fmt"

// Span returns a time span in milliseconds for people, with about three digits, rounded to the nearest,
// such as 978ms, 2.01s, 1m48s, 5h3m or 5d20h.
func Span(ms uint64) string {
	const second, minute, hour, day = 1000, 60 * 1000, 3600 * 1000, 24 * 3600 * 1000
	rounded := func(unit uint64) uint64 { return ms/unit + ms%unit*2/unit }
	switch {
	case ms == 0:
		return "0"
	case ms < second:
		return fmt.Sprintf("%dms", ms)
	case rounded(10) < 1000:
		return fmt.Sprintf("%.2fs", float64(rounded(10))/100)
	case rounded(100) < 600:
		return fmt.Sprintf("%.1fs", float64(rounded(100))/10)
	case rounded(second) < 3600:
		return fmt.Sprintf("%dm%ds", rounded(second)/60, rounded(second)%60)
	case rounded(minute) < 24*60:
		return fmt.Sprintf("%dh%dm", rounded(minute)/60, rounded(minute)%60)
	case rounded(hour) < 100*24:
		return fmt.Sprintf("%dd%dh", rounded(hour)/24, rounded(hour)%24)
	}
	return fmt.Sprintf("%dd", rounded(day))
}
