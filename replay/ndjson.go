package replay

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// These types are the lines of NDJSON, one record each. docs/TOOL.md describes them.
type (
	numbers struct {
		Seq       uint64 `json:"seq,omitempty"`
		RaftIndex uint64 `json:"raft_index,omitempty"`
		RaftTerm  uint64 `json:"raft_term,omitempty"`
	}
	checkpointLine struct {
		numbers
		Kind        Kind                    `json:"kind"`
		MigrationID *checkpoint.MigrationID `json:"migration_id"`
		Attempt     *uint32                 `json:"attempt"`
		Phase       *checkpoint.Phase       `json:"phase"`
		Payload     json.RawMessage         `json:"payload"`
		CRC32C      *uint32                 `json:"crc32c,omitempty"`
		TSMS        *uint64                 `json:"ts_ms"`
		Epoch       uint64                  `json:"epoch,omitempty"`

		// A row of the latest state also has these keys. They are ignored here.
		LastSeq json.RawMessage `json:"last_seq,omitempty"`
		Doubt   json.RawMessage `json:"doubt,omitempty"`
		Facts   json.RawMessage `json:"facts,omitempty"`
		ForMS   json.RawMessage `json:"for_ms,omitempty"`
		SetBy   json.RawMessage `json:"set_by,omitempty"`
	}
	abortLine struct { // also of an abort that was begun
		numbers
		Kind          Kind                    `json:"kind"`
		MigrationID   *checkpoint.MigrationID `json:"migration_id"`
		Reason        *string                 `json:"reason"`
		Compensations *[]compensationLine     `json:"compensations"`
		CRC32C        *uint32                 `json:"crc32c,omitempty"`
		TSMS          *uint64                 `json:"ts_ms"`
		Epoch         uint64                  `json:"epoch,omitempty"`
	}
	compensationLine struct {
		Kind     *checkpoint.CompensationKind `json:"kind"`
		GroupID  *uint64                      `json:"group_id"`
		PeerID   *uint64                      `json:"peer_id"`
		VShardID uint32                       `json:"vshard_id,omitempty"`
	}
	removeLine struct {
		numbers
		Kind        Kind                    `json:"kind"`
		MigrationID *checkpoint.MigrationID `json:"migration_id"`
		CRC32C      *uint32                 `json:"crc32c,omitempty"`
		TSMS        *uint64                 `json:"ts_ms"`
		Epoch       uint64                  `json:"epoch,omitempty"`
	}
	compensatedLine struct {
		numbers
		Kind        Kind                    `json:"kind"`
		MigrationID *checkpoint.MigrationID `json:"migration_id"`
		Step        *uint32                 `json:"step"`
		CRC32C      *uint32                 `json:"crc32c,omitempty"`
		TSMS        *uint64                 `json:"ts_ms"`
		Epoch       uint64                  `json:"epoch,omitempty"`
	}
	epochRaisedLine struct {
		numbers
		Kind        Kind                    `json:"kind"`
		MigrationID *checkpoint.MigrationID `json:"migration_id"`
		CRC32C      *uint32                 `json:"crc32c,omitempty"`
		TSMS        *uint64                 `json:"ts_ms"`
		Epoch       *uint64                 `json:"epoch"`
	}
	unknownLine struct {
		numbers
		Kind        Kind                   `json:"kind"`
		KindCode    uint64                 `json:"kind_code"`
		MigrationID checkpoint.MigrationID `json:"migration_id"`
		TSMS        uint64                 `json:"ts_ms"`
		Epoch       uint64                 `json:"epoch,omitempty"`
	}
	digestLine struct {
		numbers
		Kind   Kind     `json:"kind"`
		State  *hexText `json:"state"`
		Chain  *hexText `json:"chain"`
		CRC32C *uint32  `json:"crc32c,omitempty"`
		TSMS   *uint64  `json:"ts_ms"`
		Epoch  uint64   `json:"epoch,omitempty"`
	}
	damageLine struct {
		Kind Kind `json:"kind"`
		Damage
	}
)

// MarshalJSON returns the record as one line of NDJSON, without the line end.
func (r Record) MarshalJSON() ([]byte, error) {
	var line any
	switch {
	case r.Event != nil:
		var err error
		if line, err = r.eventLine(); err != nil {
			return nil, err
		}
	case r.Unknown != nil:
		u := r.Unknown
		line = unknownLine{r.numbers(), KindUnknown, u.Kind, u.MigrationID, u.TimestampMS, u.Epoch}
	case r.Damage != nil:
		line = damageLine{KindDamage, *r.Damage}
	default:
		return nil, errors.New("an empty record has no JSON")
	}
	return json.Marshal(line)
}

// eventLine returns the line of the record's event.
func (r Record) eventLine() (any, error) {
	if u, ok := r.Event.(checkpoint.Upserted); ok {
		c := u.Checkpoint
		payload, err := json.Marshal(c.Payload)
		phase := c.Phase()
		return checkpointLine{
			numbers: r.numbers(), Kind: KindCheckpoint, MigrationID: &c.MigrationID, Attempt: &c.Attempt, Phase: &phase,
			Payload: payload, CRC32C: &c.CRC32C, TSMS: &c.TimestampMS, Epoch: u.Epoch,
		}, err
	}
	crc, err := checkpoint.EventCRC32C(r.Event)
	if err != nil {
		return nil, err
	}
	kind, id, timeMS := r.Kind(), r.Event.Migration(), r.Event.WallMS()
	switch e := r.Event.(type) {
	case checkpoint.Aborted:
		return abortLine{r.numbers(), kind, &id, &e.Reason, compensationLines(e.Compensations), &crc, &timeMS, e.Epoch}, nil
	case checkpoint.AbortBegun:
		return abortLine{r.numbers(), kind, &id, &e.Reason, compensationLines(e.Compensations), &crc, &timeMS, e.Epoch}, nil
	case checkpoint.Removed:
		return removeLine{r.numbers(), kind, &id, &crc, &timeMS, e.Epoch}, nil
	case checkpoint.Compensated:
		return compensatedLine{r.numbers(), kind, &id, &e.Step, &crc, &timeMS, e.Epoch}, nil
	case checkpoint.Restored:
		return r.restoredLine(e, crc)
	case checkpoint.Digest:
		return digestLine{r.numbers(), kind, (*hexText)(&e.State), (*hexText)(&e.Chain), &crc, &timeMS, e.Epoch}, nil
	case checkpoint.EpochRaised:
		return epochRaisedLine{r.numbers(), kind, &id, &crc, &timeMS, &e.Epoch}, nil
	}
	return nil, fmt.Errorf("event type %T has no JSON", r.Event)
}

func compensationLines(comps []checkpoint.Compensation) *[]compensationLine {
	lines := make([]compensationLine, len(comps))
	for i := range lines {
		c := &comps[i]
		lines[i] = compensationLine{&c.Kind, &c.GroupID, &c.PeerID, c.VShardID}
	}
	return &lines
}

// UnmarshalJSON reads a line as MarshalJSON returns it. Every key is required, except the keys that
// MarshalJSON omits if they are zero, seq, crc32c and severity, and the keys of a row. An
// unknown key is an error, because a misspelled key would be read as zero. A number may also be
// given as a string. A seq that is not a whole number in range is read as 0, because an import
// ignores it. An error names the key, its value and the expected form. If the line has a crc32c that
// is not that of its event, the error wraps checkpoint.ErrCRCMismatch.
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
	case KindAbort, KindAbortBegun:
		return r.readAbort(&l, kind, line)
	case KindRemove:
		var v removeLine
		if err := l.read(line, &v); err != nil {
			return err
		}
		return r.setEvent(&l, v.numbers, checkpoint.Removed{MigrationID: *v.MigrationID, TimestampMS: *v.TSMS, Epoch: v.Epoch}, v.CRC32C)
	case KindCompensated:
		var v compensatedLine
		if err := l.read(line, &v); err != nil {
			return err
		}
		e := checkpoint.Compensated{MigrationID: *v.MigrationID, Step: *v.Step, TimestampMS: *v.TSMS, Epoch: v.Epoch}
		return r.setEvent(&l, v.numbers, e, v.CRC32C)
	case KindEpochRaised:
		return r.readEpochRaised(&l, line)
	case KindRestored:
		return r.readRestored(&l, line)
	case KindDigest:
		var v digestLine
		if err := l.read(line, &v); err != nil {
			return err
		}
		e := checkpoint.Digest{State: *v.State, Chain: *v.Chain, TimestampMS: *v.TSMS, Epoch: v.Epoch}
		return r.setEvent(&l, v.numbers, e, v.CRC32C)
	case KindUnknown:
		var v unknownLine
		if err := l.read(line, &v); err != nil {
			return err
		}
		r.setNumbers(v.numbers)
		r.Unknown = &checkpoint.UnknownKindError{Kind: v.KindCode, MigrationID: v.MigrationID, TimestampMS: v.TSMS, Epoch: v.Epoch}
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

func (r *Record) readEpochRaised(l *lineReader, line []byte) error {
	var v epochRaisedLine
	if err := l.read(line, &v); err != nil {
		return err
	}
	if *v.Epoch == 0 {
		return wrongForm("epoch", []byte("0"), "a whole number of at least 1")
	}
	return r.setEvent(l, v.numbers, checkpoint.EpochRaised{MigrationID: *v.MigrationID, TimestampMS: *v.TSMS, Epoch: *v.Epoch}, v.CRC32C)
}

// setEvent sets the numbers and the event that were read from a line. crc is the crc32c of the line,
// or nil.
func (r *Record) setEvent(l *lineReader, n numbers, e checkpoint.Event, crc *uint32) error {
	r.setNumbers(n)
	r.Event, r.Rounded = e, l.uncheckedRounding(crc)
	return l.checkCRC(e, crc)
}

func (r *Record) setNumbers(n numbers) {
	r.Seq, r.RaftIndex, r.RaftTerm = n.Seq, n.RaftIndex, n.RaftTerm
}

func (r Record) numbers() numbers { return numbers{r.Seq, r.RaftIndex, r.RaftTerm} }

// hexText is a digest of 32 bytes in hexadecimal digits.
type hexText [32]byte

// MarshalText returns the digits.
func (h hexText) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads the digits.
func (h *hexText) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(h) || len(text)%2 != 0 {
		return errors.New("not 64 hexadecimal digits")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

func wrongKind(raw json.RawMessage) error {
	var names []string
	for _, k := range checkpoint.Kinds() {
		names = append(names, string(eventKinds[k]))
	}
	last := len(names) - 1
	kinds := strings.Join(names[:last], ", ") + " and " + names[last]
	if len(raw) == 0 || isNull(raw) {
		return fmt.Errorf("the key \"kind\" is missing: the kinds of events are %s", kinds)
	}
	return fmt.Errorf("\"kind\": %s is not a kind of event: the kinds are %s", shown(raw), kinds)
}

// readAbort reads a line of an abort, or of an abort that was begun.
func (r *Record) readAbort(l *lineReader, kind Kind, line []byte) error {
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
	e := checkpoint.Aborted{MigrationID: *v.MigrationID, Reason: *v.Reason, Compensations: comps, TimestampMS: *v.TSMS, Epoch: v.Epoch}
	if kind == KindAbortBegun {
		return r.setEvent(l, v.numbers, checkpoint.AbortBegun(e), v.CRC32C)
	}
	return r.setEvent(l, v.numbers, e, v.CRC32C)
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
	c, err := l.checkpoint(v.MigrationID, v.Attempt, v.Phase, v.Payload, v.TSMS)
	if err != nil {
		return err
	}
	return r.setEvent(l, v.numbers, checkpoint.Upserted{Checkpoint: c, Epoch: v.Epoch}, v.CRC32C)
}

// checkpoint returns the checkpoint of a line whose other keys were read. It returns an error for all
// missing and unknown keys of the line.
func (l *lineReader) checkpoint(id *checkpoint.MigrationID, attempt *uint32, phase *checkpoint.Phase, payload json.RawMessage, timeMS *uint64) (c checkpoint.Checkpoint, err error) {
	if phase == nil || payload == nil {
		return c, l.keyError()
	}
	l.rounded = "" // only the payload has a checksum
	p, err := checkpoint.ReadPayload(*phase, func(into any) error {
		return l.object("payload.", payload, into)
	})
	if err == nil {
		err = l.keyError()
	}
	if err != nil {
		return c, fmt.Errorf("phase %s: %w", *phase, err)
	}
	crc, err := checkpoint.PayloadCRC32C(p)
	if err != nil {
		return c, err
	}
	return checkpoint.Checkpoint{MigrationID: *id, Attempt: *attempt, Payload: p, CRC32C: crc, TimestampMS: *timeMS}, nil
}
