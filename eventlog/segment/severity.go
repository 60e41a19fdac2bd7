package segment

import "fmt"

// Severity is the effect of a finding on the events of a log. The zero value is the worst one, so
// that a finding without a severity is not mistaken for a harmless one.
type Severity uint8

const (
	// LosesEvents is the severity of a finding that lost at least one event.
	LosesEvents Severity = iota
	// EndangersEvents is the severity of a finding that lost no event. It may lead to a loss, hide
	// a loss, or prevent the log from being opened for writing.
	EndangersEvents
	// Harmless is the severity of a finding that neither loses nor endangers an event: a stray file
	// that tidwall/wal ignores, one damaged copy of two, a damaged snapshot, or a torn tail.
	Harmless
)

var severityNames = [...]string{LosesEvents: "loses events", EndangersEvents: "endangers events", Harmless: "harmless"}

func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("severity %d", uint8(s))
}

// MarshalText returns the name of the severity.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name of a severity. It reads an unknown name, which a later version may
// have written, as LosesEvents.
func (s *Severity) UnmarshalText(text []byte) error {
	*s = LosesEvents
	for severity, name := range severityNames {
		if string(text) == name {
			*s = Severity(severity)
		}
	}
	return nil
}
