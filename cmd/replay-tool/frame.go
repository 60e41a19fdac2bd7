package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

func (t *tool) frame() *cobra.Command {
	var segment string
	var offset int64
	c := &cobra.Command{
		Use:   "frame DIR SEQ",
		Short: "Show the bytes of one frame, field by field",
		Long: `Show the bytes of one frame, field by field, with a verdict on each checksum.

With --segment and --offset, show a damaged frame in place of SEQ: 'replay-tool
verify' prints both numbers. If one flipped bit explains a checksum that does
not match, that bit is named. docs/FORMAT.md describes the fields.`,
		Example: `  replay-tool frame log 9402
  replay-tool frame log --segment 00000000000000000001 --offset 5000`,
		Args: argCount(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			byPlace := c.Flags().Changed("segment") && c.Flags().Changed("offset")
			if byPlace == (len(args) == 2) || !byPlace && (c.Flags().Changed("segment") || c.Flags().Changed("offset")) || offset < 0 {
				return usageErrorf("give a SEQ, or both --segment and --offset (usage: %s)", c.UseLine())
			}
			reader, err := replay.Open(args[0])
			if err != nil {
				return err
			}
			if !byPlace {
				if segment, offset, err = t.findFrame(c.Context(), reader, args[0], args[1]); err != nil {
					return err
				}
			}
			return t.runFrame(reader, segment, offset)
		},
	}
	c.Flags().StringVar(&segment, "segment", "", "`name` of the segment of a damaged frame")
	c.Flags().Int64Var(&offset, "offset", 0, "`byte` of the segment at which the frame's entry or header begins")
	return c
}

// findFrame returns the place of the frame with that number. If the frame is lost, it prints the
// damage and returns a silentExit.
func (t *tool) findFrame(ctx context.Context, reader *replay.Reader, dir, number string) (segment string, offset int64, err error) {
	seq, err := strconv.ParseUint(strings.TrimPrefix(number, "#"), 10, 64)
	if err != nil || seq == 0 {
		return "", 0, usageErrorf("%q is not the number of an event: give a number from 1 on", number)
	}
	for r, err := range reader.Records(ctx, replay.Query{FromSeq: seq, ToSeq: seq}) {
		switch {
		case err != nil:
			return "", 0, err
		case r.Damage == nil:
			return r.Segment, r.EntryOffset(), nil
		case !r.Damage.Torn && r.Damage.FirstSeq <= seq && seq <= r.Damage.LastSeq:
			t.alertf("#%d is lost: %s", seq, r.Damage)
			if r.Damage.Length > 0 {
				t.statusf("next: replay-tool frame %s --segment %s --offset %d", quoted(dir), r.Damage.Segment, r.Damage.Offset)
			}
			return "", 0, silentExit{exitDamage}
		}
	}
	return "", 0, fmt.Errorf("%w: the log has no event #%d. To see its last event, run 'replay-tool info %s'", errNoMatch, seq, quoted(dir))
}

// frameJSON is the output of frame -o json.
type frameJSON struct {
	Segment      string      `json:"segment"`
	Offset       int64       `json:"offset"` // of the first field
	Length       int         `json:"length"`
	Seq          uint64      `json:"seq"` // that of the repaired header if one flipped bit explains its damage
	HeaderIntact bool        `json:"header_intact"`
	BodyIntact   bool        `json:"body_intact"`
	Event        bool        `json:"event"` // the body is an event
	EventError   string      `json:"event_error,omitempty"`
	Fields       []fieldJSON `json:"fields"`
}

type fieldJSON struct {
	Offset int64  `json:"offset"` // in the segment
	Hex    string `json:"hex"`
	Name   string `json:"name"`
	Value  string `json:"value"`
	Fault  string `json:"fault,omitempty"`
}

func (t *tool) runFrame(reader *replay.Reader, segment string, offset int64) error {
	v, err := reader.FrameAt(segment, offset)
	if err != nil {
		return err
	}
	out := frameJSON{
		Segment: v.Segment, Offset: offset, Length: len(v.Bytes), Seq: v.Seq, HeaderIntact: v.HeaderIntact, BodyIntact: v.BodyIntact,
		Event: v.EventErr == nil || errors.As(v.EventErr, new(*checkpoint.UnknownKindError)),
	}
	if v.EventErr != nil {
		out.EventError = v.EventErr.Error()
	}
	for _, f := range v.Fields {
		out.Fields = append(out.Fields, fieldJSON{f.Offset, hex.EncodeToString(f.Bytes), f.Name, t.fieldValue(f), f.Fault})
	}
	if err := t.writeValue(out, func() { t.frameText(v, out) }); err != nil {
		return err
	}
	if !v.Intact() || !out.Event {
		return silentExit{exitDamage}
	}
	return nil
}

// fieldValue returns the value of a field, with the time if it is one.
func (t *tool) fieldValue(f replay.FrameField) string {
	if ms, err := strconv.ParseUint(f.Value, 10, 64); err == nil && f.Name == "ts_ms" {
		return f.Value + " " + t.isoTime(ms)
	}
	return f.Value
}

const (
	hexPerLine  = 8 // bytes
	hexLines    = 4 // of one field; JSON has all bytes
	hexColumns  = 3*hexPerLine - 1
	nameColumns = 15
)

// frameText prints a verdict and one line per field: the offset, the bytes, the name and the value.
func (t *tool) frameText(v replay.FrameView, out frameJSON) {
	s, verdict := stylePlain, "intact"
	switch {
	case !v.HeaderIntact:
		s, verdict = styleError, "DAMAGED: the header does not match its CRC32C"
	case !v.BodyIntact:
		s, verdict = styleError, "DAMAGED: the body does not match its CRC32C"
	case !out.Event:
		s, verdict = styleError, "DAMAGED: not an event: "+out.EventError
	}
	t.paragraph(s, fmt.Sprintf("frame #%d: %s", out.Seq, verdict))
	fmt.Fprintf(t.stdout, "segment %s, byte %d, %s\n\n", out.Segment, out.Offset, count(out.Length, "byte"))
	for i, f := range v.Fields {
		t.fieldText(f, out.Fields[i].Value)
	}
}

// fieldText prints a field. If its value does not fit after the name, it is in the next line.
func (t *tool) fieldText(f replay.FrameField, value string) {
	name := f.Name
	if inPayload, ok := strings.CutPrefix(name, "payload."); ok {
		name = "  " + inPayload
	}
	texts := []string{fmt.Sprintf("%-*s  %s", nameColumns, name, value)}
	if width := t.width(); width > 0 && len([]rune(texts[0])) > width-textColumn {
		texts = []string{name, "  " + value}
	}
	b, more := f.Bytes, ""
	if len(b) > hexLines*hexPerLine {
		b, more = b[:hexLines*hexPerLine], fmt.Sprintf("... %d bytes more", len(b)-hexLines*hexPerLine)
	}
	for line := 0; line < len(texts) || len(b) > 0; line++ {
		at, bytes, text := "", b[:min(hexPerLine, len(b))], ""
		if len(bytes) > 0 {
			at = strconv.FormatInt(f.Offset+int64(line*hexPerLine), 10)
		}
		if line < len(texts) {
			text = texts[line]
		}
		t.fieldLine(stylePlain, at, fmt.Sprintf("% x", bytes), text)
		b = b[len(bytes):]
	}
	if more != "" {
		t.fieldLine(stylePlain, "", more, "")
	}
	if f.Fault == "" {
		return
	}
	faults := []string{"! " + f.Fault}
	if width := t.width(); width > 0 {
		faults = wrap(faults[0], max(width-textColumn, minFreeWidth))
	}
	for _, line := range faults {
		t.fieldLine(styleError, "", "", line)
	}
}

// offsetColumns is the width of the offsets in a segment of up to 10 MB.
const offsetColumns = 7

// textColumn is the number of columns before the name of a field.
const textColumn = offsetColumns + 2 + hexColumns + 2

func (t *tool) fieldLine(s style, offset, bytes, text string) {
	if width := t.width(); width > 0 {
		text = cutText(text, max(width-textColumn, minFreeWidth))
	}
	line := fmt.Sprintf("%*s  %-*s  ", offsetColumns, offset, hexColumns, bytes)
	fmt.Fprintln(t.stdout, strings.TrimRight(line+t.paint(s, printable(text)), " "))
}
