package replay

import (
	"errors"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// Damage is a range of a file whose records are missing or not intact.
type Damage = segment.Damage

// Record is one entry of the history. Exactly one of Event, Unknown and Damage is set.
type Record struct {
	Seq     uint64 // 0 for damage
	PrevSeq uint64 // the migration's previous record; 0 for the first of an incarnation
	Event   checkpoint.Event
	Unknown *checkpoint.UnknownKindError // an event of a kind that a newer version wrote
	Damage  *Damage

	// RaftIndex and RaftTerm are the position of the event in the log of a consensus engine, or 0.
	RaftIndex, RaftTerm uint64

	Segment        string // file name
	Offset, Length int64  // of the frame in the segment
	DurableThrough uint64 // every record up to this one was on the device when this one was written
	HeaderCRC32C   uint32 // of the frame

	// Rounded is the first number of a JSON line without a crc32c that a program may have rounded to a
	// float64, with its key, or "". UnmarshalJSON sets it. About one number above 2^53 in 100 looks
	// rounded by chance.
	Rounded string
}

// Decode returns the record of a scanned item. If the body of an intact frame is not an event, the
// record is damage.
func Decode(item segment.Item) Record {
	if item.Damage != nil {
		return Record{Damage: item.Damage, Segment: item.Damage.Segment, Offset: item.Damage.Offset, Length: item.Damage.Length}
	}
	f := item.Frame
	r := Record{
		Seq: f.Seq, PrevSeq: f.PrevSeq, DurableThrough: f.DurableThrough,
		Segment: f.Segment, Offset: f.Offset, Length: f.Length(), HeaderCRC32C: f.ID().HeaderCRC32C,
	}
	event, err := checkpoint.DecodeEvent(f.Body)
	r.RaftIndex, r.RaftTerm = checkpoint.PositionOf(f.Body)
	switch {
	case err == nil:
		r.Event = event
	case errors.As(err, &r.Unknown):
	default:
		r.Seq, r.PrevSeq, r.RaftIndex, r.RaftTerm = 0, 0, 0, 0
		r.Damage = &Damage{
			Segment: f.Segment, Offset: f.Offset, Length: f.Length(),
			FirstSeq: f.Seq, LastSeq: f.Seq, Reason: "not an event: " + err.Error(), Severity: segment.LosesEvents,
		}
	}
	return r
}

func (r Record) frameID() segment.FrameID {
	first, _ := segment.ParseName(r.Segment)
	return segment.FrameID{Seq: r.Seq, Segment: first, HeaderCRC32C: r.HeaderCRC32C}
}

// place returns the place of an event's frame. The place of a zero Record is zero.
func (r Record) place() segment.Place {
	return segment.Place{Segment: r.Segment, Offset: r.Offset, Length: r.Length, Seq: r.Seq, HeaderCRC32C: r.HeaderCRC32C}
}

// Migration returns the migration of the record, if it is known. A digest belongs to no migration.
func (r Record) Migration() (checkpoint.MigrationID, bool) {
	switch {
	case r.Event != nil:
		if id := r.Event.Migration(); id != checkpoint.StoreID {
			return id, true
		}
	case r.Unknown != nil:
		return r.Unknown.MigrationID, true
	}
	return checkpoint.MigrationID{}, false
}

// Epoch returns the epoch of the record's event, or 0 if it has none.
func (r Record) Epoch() uint64 {
	if r.Unknown != nil {
		return r.Unknown.Epoch
	}
	return checkpoint.EpochOf(r.Event)
}

// change returns the change of an intact record.
func (r Record) change() projection.Change {
	var c projection.Change
	if r.Unknown != nil {
		c = projection.UnknownChange(r.Unknown.MigrationID)
		c.RaiseEpoch(r.Unknown.Epoch)
	} else {
		c = projection.ChangeOf(r.Event)
	}
	c.SetIndex(r.RaftIndex)
	return c
}

// WallMS returns the record's wall clock in Unix milliseconds, or 0 for damage.
func (r Record) WallMS() uint64 {
	switch {
	case r.Event != nil:
		return r.Event.WallMS()
	case r.Unknown != nil:
		return r.Unknown.TimestampMS
	}
	return 0
}
