package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// These types are the lines of NDJSON, one record each. docs/TOOL.md describes them.
type (
	checkpointLine struct {
		Seq         uint64                  `json:"seq,omitempty"`
		Kind        Kind                    `json:"kind"`
		MigrationID *checkpoint.MigrationID `json:"migration_id"`
		Attempt     *uint32                 `json:"attempt"`
		Phase       *checkpoint.Phase       `json:"phase"`
		Payload     json.RawMessage         `json:"payload"`
		CRC32C      *uint32                 `json:"crc32c,omitempty"`
		TSMS        *uint64                 `json:"ts_ms"`

		// A row of the latest state also has these keys. They are ignored here.
		Doubt json.RawMessage `json:"doubt,omitempty"`
		Facts json.RawMessage `json:"facts,omitempty"`
	}
	abortLine struct {
		Seq           uint64                  `json:"seq,omitempty"`
		Kind          Kind                    `json:"kind"`
		MigrationID   *checkpoint.MigrationID `json:"migration_id"`
		Reason        *string                 `json:"reason"`
		Compensations *[]compensationLine     `json:"compensations"`
		CRC32C        *uint32                 `json:"crc32c,omitempty"`
		TSMS          *uint64                 `json:"ts_ms"`
	}
	compensationLine struct {
		Kind     *checkpoint.CompensationKind `json:"kind"`
		GroupID  *uint64                      `json:"group_id"`
		PeerID   *uint64                      `json:"peer_id"`
		VShardID uint32                       `json:"vshard_id,omitempty"`
	}
	removeLine struct {
		Seq         uint64                  `json:"seq,omitempty"`
		Kind        Kind                    `json:"kind"`
		MigrationID *checkpoint.MigrationID `json:"migration_id"`
		CRC32C      *uint32                 `json:"crc32c,omitempty"`
		TSMS        *uint64                 `json:"ts_ms"`
	}
	unknownLine struct {
		Seq         uint64                 `json:"seq,omitempty"`
		Kind        Kind                   `json:"kind"`
		KindCode    uint64                 `json:"kind_code"`
		MigrationID checkpoint.MigrationID `json:"migration_id"`
		TSMS        uint64                 `json:"ts_ms"`
	}
	damageLine struct {
		Kind Kind `json:"kind"`
		Damage
	}
)

// MarshalJSON returns the record as one line of NDJSON, without the line end.
func (r Record) MarshalJSON() ([]byte, error) {
	switch e := r.Event.(type) {
	case checkpoint.Upserted:
		c := e.Checkpoint
		payload, err := json.Marshal(c.Payload)
		if err != nil {
			return nil, err
		}
		phase := c.Phase()
		return json.Marshal(checkpointLine{
			Seq: r.Seq, Kind: KindCheckpoint, MigrationID: &c.MigrationID, Attempt: &c.Attempt, Phase: &phase,
			Payload: payload, CRC32C: &c.CRC32C, TSMS: &c.TimestampMS,
		})
	case checkpoint.Aborted:
		comps := make([]compensationLine, len(e.Compensations))
		for i := range comps {
			c := &e.Compensations[i]
			comps[i] = compensationLine{&c.Kind, &c.GroupID, &c.PeerID, c.VShardID}
		}
		crc, err := checkpoint.EventCRC32C(e)
		if err != nil {
			return nil, err
		}
		return json.Marshal(abortLine{r.Seq, KindAbort, &e.MigrationID, &e.Reason, &comps, &crc, &e.TimestampMS})
	case checkpoint.Removed:
		crc, err := checkpoint.EventCRC32C(e)
		if err != nil {
			return nil, err
		}
		return json.Marshal(removeLine{r.Seq, KindRemove, &e.MigrationID, &crc, &e.TimestampMS})
	}
	if u := r.Unknown; u != nil {
		return json.Marshal(unknownLine{r.Seq, KindUnknown, u.Kind, u.MigrationID, u.TimestampMS})
	}
	if r.Damage == nil {
		return nil, errors.New("an empty record has no JSON")
	}
	return json.Marshal(damageLine{KindDamage, *r.Damage})
}

// UnmarshalJSON reads a line as MarshalJSON returns it. Every key is required, except the keys that
// MarshalJSON omits if they are zero, and seq, crc32c, severity, doubt and facts. An unknown key is an error,
// because a misspelled key would be read as zero. A number may also be given as a string. A seq that
// is not a whole number in range is read as 0, because an import ignores it. An error names the key,
// its value and the expected form. If the line has a crc32c that is not that of its event, the error
// wraps checkpoint.ErrCRCMismatch.
func (r *Record) UnmarshalJSON(line []byte) error {
	if err := checkSyntax(line); err != nil {
		return err
	}
	var head struct {
		Kind json.RawMessage `json:"kind"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return fmt.Errorf("%s is not a JSON object", shown(line))
	}
	var kind Kind
	if json.Unmarshal(head.Kind, &kind) != nil || kind == "" {
		return wrongKind(head.Kind)
	}
	*r = Record{}
	var l lineReader
	switch kind {
	case KindCheckpoint:
		return r.readCheckpoint(&l, line)
	case KindAbort:
		return r.readAbort(&l, line)
	case KindRemove:
		var v removeLine
		if err := l.read(line, &v); err != nil {
			return err
		}
		r.Seq, r.Rounded = v.Seq, l.uncheckedRounding(v.CRC32C)
		r.Event = checkpoint.Removed{MigrationID: *v.MigrationID, TimestampMS: *v.TSMS}
		return l.checkCRC(r.Event, v.CRC32C)
	case KindUnknown:
		var v unknownLine
		if err := l.read(line, &v); err != nil {
			return err
		}
		r.Seq = v.Seq
		r.Unknown = &checkpoint.UnknownKindError{Kind: v.KindCode, MigrationID: v.MigrationID, TimestampMS: v.TSMS}
		return nil
	case KindDamage:
		var v struct {
			damageLine
			Severity segment.Severity `json:"severity,omitempty"` // an older version writes none
		}
		if err := l.read(line, &v); err != nil {
			return err
		}
		r.Damage = &v.Damage
		r.Damage.Severity = v.Severity
		return nil
	}
	return wrongKind(head.Kind)
}

func wrongKind(raw json.RawMessage) error {
	if len(raw) == 0 || isNull(raw) {
		return fmt.Errorf("the key \"kind\" is missing: the kinds of events are %s, %s and %s", KindCheckpoint, KindAbort, KindRemove)
	}
	return fmt.Errorf("\"kind\": %s is not a kind of event: the kinds are %s, %s and %s", shown(raw), KindCheckpoint, KindAbort, KindRemove)
}

func (r *Record) readAbort(l *lineReader, line []byte) error {
	var v abortLine
	if err := l.read(line, &v); err != nil {
		return err
	}
	if half := halfPair(line); half != "" { // package json would replace it with U+FFFD
		return fmt.Errorf(`"reason": %s is half of a surrogate pair and not a character: give both halves, or the character itself in UTF-8`, half)
	}
	var comps []checkpoint.Compensation
	for _, c := range *v.Compensations {
		comps = append(comps, checkpoint.Compensation{Kind: *c.Kind, GroupID: *c.GroupID, PeerID: *c.PeerID, VShardID: c.VShardID})
	}
	r.Seq, r.Rounded = v.Seq, l.uncheckedRounding(v.CRC32C)
	r.Event = checkpoint.Aborted{MigrationID: *v.MigrationID, Reason: *v.Reason, Compensations: comps, TimestampMS: *v.TSMS}
	return l.checkCRC(r.Event, v.CRC32C)
}

var surrogates = regexp.MustCompile(`(?i)\\\\|\\u(d[89ab]..\\ud[c-f]..|d[89a-f]..)`)

// halfPair returns the first escape in a line of JSON that is half of a surrogate pair (RFC 8259,
// 7) without the other half, or "".
func halfPair(line []byte) string {
	for _, found := range surrogates.FindAll(line, -1) {
		if len(found) == len(`\uXXXX`) {
			return string(found)
		}
	}
	return ""
}

func (r *Record) readCheckpoint(l *lineReader, line []byte) error {
	var v checkpointLine
	if err := l.object("", line, &v); err != nil {
		return err
	}
	if v.Phase == nil || v.Payload == nil {
		return l.keyError()
	}
	l.rounded = "" // only the payload has a checksum
	p, err := checkpoint.ReadPayload(*v.Phase, func(into any) error {
		return l.object("payload.", v.Payload, into)
	})
	if err == nil {
		err = l.keyError()
	}
	if err != nil {
		return fmt.Errorf("phase %s: %w", *v.Phase, err)
	}
	crc, err := checkpoint.PayloadCRC32C(p)
	if err != nil {
		return err
	}
	r.Seq, r.Rounded = v.Seq, l.uncheckedRounding(v.CRC32C)
	r.Event = checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{
		MigrationID: *v.MigrationID, Attempt: *v.Attempt, Payload: p, CRC32C: crc, TimestampMS: *v.TSMS,
	}}
	return l.checkCRC(r.Event, v.CRC32C)
}
