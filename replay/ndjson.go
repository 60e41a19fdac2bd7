package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

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
		return json.Marshal(abortLine{r.Seq, KindAbort, &e.MigrationID, &e.Reason, &comps, &e.TimestampMS})
	case checkpoint.Removed:
		return json.Marshal(removeLine{r.Seq, KindRemove, &e.MigrationID, &e.TimestampMS})
	}
	if u := r.Unknown; u != nil {
		return json.Marshal(unknownLine{r.Seq, KindUnknown, u.Kind, u.MigrationID, u.TimestampMS})
	}
	if r.Damage == nil {
		return nil, errors.New("an empty record has no JSON")
	}
	return json.Marshal(damageLine{KindDamage, *r.Damage})
}

// UnmarshalJSON reads a line as MarshalJSON returns it. Every key except seq and crc32c is
// required. No other key is allowed, except doubt and facts of a row, so that a misspelled key is
// not read as zero. If crc32c is missing, it is computed from the payload.
func (r *Record) UnmarshalJSON(line []byte) error {
	if !utf8.Valid(line) {
		return errors.New("not valid UTF-8")
	}
	if err := plainKeys(json.NewDecoder(bytes.NewReader(line)), maxDepth); err != nil {
		return err
	}
	var head struct {
		Kind Kind `json:"kind"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return inPlainWords(err)
	}
	*r = Record{}
	switch head.Kind {
	case KindCheckpoint:
		return r.readCheckpoint(line)
	case KindAbort:
		return r.readAbort(line)
	case KindRemove:
		var l removeLine
		if err := strict(line, &l); err != nil {
			return err
		}
		r.Seq = l.Seq
		r.Event = checkpoint.Removed{MigrationID: *l.MigrationID, TimestampMS: *l.TSMS}
		return nil
	case KindUnknown:
		var l unknownLine
		if err := strict(line, &l); err != nil {
			return err
		}
		r.Seq = l.Seq
		r.Unknown = &checkpoint.UnknownKindError{Kind: l.KindCode, MigrationID: l.MigrationID, TimestampMS: l.TSMS}
		return nil
	case KindDamage:
		var l struct {
			damageLine
			Severity segment.Severity `json:"severity,omitempty"` // an older version writes none
		}
		if err := strict(line, &l); err != nil {
			return err
		}
		r.Damage = &l.Damage
		r.Damage.Severity = l.Severity
		return nil
	case "":
		return errors.New(`no "kind"`)
	}
	return fmt.Errorf("kind %q: the kinds are %s, %s and %s", head.Kind, KindCheckpoint, KindAbort, KindRemove)
}

func (r *Record) readAbort(line []byte) error {
	var l abortLine
	if err := strict(line, &l); err != nil {
		return err
	}
	var comps []checkpoint.Compensation
	for i, c := range *l.Compensations {
		if c.Kind == nil || c.GroupID == nil || c.PeerID == nil {
			return fmt.Errorf(`compensation %d: it needs "kind", "group_id" and "peer_id"`, i)
		}
		comps = append(comps, checkpoint.Compensation{Kind: *c.Kind, GroupID: *c.GroupID, PeerID: *c.PeerID, VShardID: c.VShardID})
	}
	if hasHalfPair(line) { // package json would replace it by U+FFFD
		return errors.New("reason: half of a surrogate pair is no character")
	}
	r.Seq = l.Seq
	r.Event = checkpoint.Aborted{MigrationID: *l.MigrationID, Reason: *l.Reason, Compensations: comps, TimestampMS: *l.TSMS}
	return nil
}

var surrogates = regexp.MustCompile(`(?i)\\\\|\\u(d[89ab]..\\ud[c-f]..|d[89a-f]..)`)

// hasHalfPair reports whether a line of JSON has an escape that is half of a surrogate pair
// (RFC 8259, 7) without the other half.
func hasHalfPair(line []byte) bool {
	return slices.ContainsFunc(surrogates.FindAll(line, -1), func(b []byte) bool { return len(b) == len(`\uXXXX`) })
}

func (r *Record) readCheckpoint(line []byte) error {
	var l checkpointLine
	if err := strict(line, &l); err != nil {
		return err
	}
	p, err := readPayload(*l.Phase, l.Payload)
	if err != nil {
		return fmt.Errorf("%s payload: %w", *l.Phase, err)
	}
	if l.CRC32C == nil {
		crc, err := checkpoint.PayloadCRC32C(p)
		if err != nil {
			return err
		}
		l.CRC32C = &crc
	}
	r.Seq = l.Seq
	r.Event = checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{
		MigrationID: *l.MigrationID, Attempt: *l.Attempt, Payload: p, CRC32C: *l.CRC32C, TimestampMS: *l.TSMS,
	}}
	return nil
}

func readPayload(phase checkpoint.Phase, b []byte) (checkpoint.Payload, error) {
	return checkpoint.ReadPayload(phase, func(into any) error { return strict(b, into) })
}

// strict reads one JSON object into the zero value that into points at. It returns an error for a
// missing or an unknown key. A key may be missing if its zero value is omitted in the output.
func strict(b []byte, into any) error {
	want, err := json.Marshal(into)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return inPlainWords(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return requireKeys(b, want, "")
}

// plainKeys reads one JSON value. It returns an error if a key occurs twice, or has a character other
// than a-z, 0-9 and "_". Package json would accept "Attempt" as "attempt", and would use the later
// of two equal keys. Values may be nested up to depth.
func plainKeys(d *json.Decoder, depth int) error {
	token, err := d.Token()
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	case depth == 0:
		return errors.New("json: nested too deeply")
	}
	switch token {
	case json.Delim('{'):
		seen := make(map[string]bool, 8)
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name := key.(string)
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
				return fmt.Errorf("json: unknown field %q", name)
			}
			if seen[name] {
				return fmt.Errorf("%q twice", name)
			}
			seen[name] = true
			if err := plainKeys(d, depth-1); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for d.More() {
			if err := plainKeys(d, depth-1); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	if _, err = d.Token(); err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// maxDepth is deeper than any valid line.
const maxDepth = 32

// inPlainWords rewrites an error of package json for users. If a value has the wrong type, the new
// error has the JSON key and no names of Go types.
func inPlainWords(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case !errors.As(err, &wrong):
		return err
	case wrong.Field == "":
		return fmt.Errorf("%s where a JSON object should be", wrong.Value)
	}
	return fmt.Errorf("%q: %s does not fit", wrong.Field, wrong.Value)
}

// requireKeys returns an error if have lacks a key of want.
func requireKeys(have, want []byte, path string) error {
	var h, w map[string]json.RawMessage
	if json.Unmarshal(want, &w) != nil || w == nil {
		return nil // not an object
	}
	if err := json.Unmarshal(have, &h); err != nil {
		return err
	}
	for key, value := range w {
		got, ok := h[key]
		if !ok || string(got) == "null" {
			return fmt.Errorf("no %q", path+key)
		}
		if err := requireKeys(got, value, path+key+"."); err != nil {
			return err
		}
	}
	return nil
}
