package summary

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/FastFilter/xorfilter"
	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay/histogram"
)

// Prior looks up a migration that has earlier events than those of a segment. seq is the number of its
// latest event before the segment. Prior returns the state after that event, from the summary of an
// earlier segment, or false if there is none.
type Prior func(seq uint64, id checkpoint.MigrationID) (Migration, bool)

// Build builds the summary of a segment from its bytes. firstSeq is the number in the segment's name.
// Build returns false if the segment is not intact, or has a body that is not an event. The result
// depends only on the arguments and on the results of prior.
func Build(data []byte, log uuid.UUID, firstSeq uint64, prior Prior) (segment.Summary, bool) {
	return new(Builder).Build(data, log, firstSeq, prior)
}

// Builder builds summaries like the function Build. It reuses its memory, so a result is valid
// only until the next call. The zero value is ready for use. It is not safe for concurrent use.
type Builder struct {
	// Pause, unless it is nil, is called after each few frames, so that the work can be done in steps.
	Pause func()

	firstSeq   uint64
	frames     []frame
	migrations []incarnation
	earlier    []*incarnation
	totals     Totals
	stays      [checkpoint.PhaseComplete + 1]histogram.Histogram
	aborts     []abort
	keys       []uint64
	fuse       xorfilter.BinaryFuseBuilder
	sections   [segment.SummarySections][]byte
}

// Build is like the function Build.
func (b *Builder) Build(data []byte, log uuid.UUID, firstSeq uint64, prior Prior) (segment.Summary, bool) {
	b.reset(firstSeq, len(data))
	head := segment.SummaryHead{FirstSeq: firstSeq, SizeBytes: int64(len(data))}
	next, decoded := int64(0), true
	end, intact := segment.Walk(data, log, firstSeq, func(h segment.Header, frame []byte) {
		next += int64(segment.EntryBytes(len(frame)))
		id := segment.FrameIDOf(frame, firstSeq)
		head.LastSeq, head.LastHeaderCRC32C, head.LastOffset = h.Seq, id.HeaderCRC32C, next-int64(len(frame))
		decoded = decoded && b.add(h, id.HeaderCRC32C, frame[segment.HeaderBytes:])
		if b.Pause != nil && h.Seq%framesPerStep == 0 {
			b.Pause()
		}
	})
	if !intact || !decoded || end == firstSeq {
		return segment.Summary{}, false
	}
	b.lookUp(prior)
	return b.encode(head)
}

// framesPerStep is the number of frames between two calls of Pause. They take about 0.05 ms.
const framesPerStep = 256

// The first sizes of the lists come from these lower estimates of the bytes of an entry and of all
// entries of a migration.
const (
	typicalEntryBytes     = 90
	typicalMigrationBytes = 500
)

// reset prepares for a segment of that size.
func (b *Builder) reset(firstSeq uint64, sizeBytes int) {
	b.firstSeq, b.totals, b.stays = firstSeq, Totals{}, [checkpoint.PhaseComplete + 1]histogram.Histogram{}
	b.frames = slices.Grow(b.frames[:0], sizeBytes/typicalEntryBytes)
	b.migrations = slices.Grow(b.migrations[:0], sizeBytes/typicalMigrationBytes)
	b.aborts = b.aborts[:0]
}

// incarnation is a migration, with the values for a look-up in earlier segments.
type incarnation struct {
	Migration
	prevSeq uint64 // of the first event; 0: the incarnation begins here
	facts   bool   // the latest checkpoint restores facts: see checkpoint.RestoresFacts
	removed bool   // ended by a removal

	// The first record in this segment, if the incarnation began earlier: it may end a stay.
	hasFirst   bool
	firstKind  checkpoint.Kind
	firstPhase checkpoint.Phase
	firstMS    uint64
}

// abort is an abort. Its group may be known only after a look-up in earlier segments.
type abort struct {
	migration uint32
	reason    string
}

// add adds the next frame. It returns false if the body is not an event.
func (b *Builder) add(h segment.Header, headerCRC32C uint32, body []byte) bool {
	f := frame{headerCRC32C: headerCRC32C}
	if o, ok := checkpoint.ReadOutline(body); ok {
		f.migration, f.wallMS = b.migrationOf(h, o.MigrationID), o.TimestampMS
		f.code = byte(o.Phase) | byte(checkpoint.KindUpserted)<<codeKind | bit(o.Attempt > 0, codeRetried)
		b.addCheckpoint(f.migration, &o)
	} else if !b.addOther(h, body, &f) {
		return false
	}
	if b.totals.Events == 0 {
		b.totals.EarliestMS, b.totals.LatestMS = f.wallMS, f.wallMS
	}
	b.totals.EarliestMS = min(b.totals.EarliestMS, f.wallMS)
	b.totals.LatestMS = max(b.totals.LatestMS, f.wallMS)
	b.totals.Events++
	b.totals.Kinds[f.code>>codeKind]++
	b.frames = append(b.frames, f)
	return true
}

// migrationOf returns the index of the incarnation of a frame. It follows the link to the previous
// frame of the same incarnation.
func (b *Builder) migrationOf(h segment.Header, id checkpoint.MigrationID) uint32 {
	if h.PrevSeq >= b.firstSeq {
		i := b.frames[h.PrevSeq-b.firstSeq].migration
		if m := &b.migrations[i]; m.ID == id && !m.Ended {
			return i
		}
		h.PrevSeq = 0
	}
	if id == checkpoint.StoreID { // the digests need no facts of earlier ones
		h.PrevSeq = 0
	}
	m := incarnation{prevSeq: h.PrevSeq}
	m.ID, m.Began, m.Partial = id, h.PrevSeq == 0, h.PrevSeq != 0
	b.migrations = append(b.migrations, m)
	return uint32(len(b.migrations) - 1)
}

// addOther adds an event that is not an upserted event in the usual encoding.
func (b *Builder) addOther(h segment.Header, body []byte, f *frame) bool {
	e, err := checkpoint.DecodeEvent(body)
	if unknown := (*checkpoint.UnknownKindError)(nil); errors.As(err, &unknown) {
		f.migration, f.wallMS = b.migrationOf(h, unknown.MigrationID), unknown.TimestampMS
		return true
	}
	if err != nil {
		return false
	}
	f.migration, f.wallMS = b.migrationOf(h, e.Migration()), e.WallMS()
	f.code = byte(checkpoint.KindOf(e)) << codeKind
	m := &b.migrations[f.migration]
	switch e := e.(type) {
	case checkpoint.Upserted:
		o := outlineOf(e.Checkpoint)
		f.code |= byte(o.Phase) | bit(o.Attempt > 0, codeRetried)
		b.addCheckpoint(f.migration, &o)
	case checkpoint.Restored:
		f.code |= byte(e.Checkpoint.Phase())
		b.addRestored(f.migration, e)
	case checkpoint.Aborted:
		b.endStay(m, checkpoint.KindAborted, 0, f.wallMS)
		b.aborts = append(b.aborts, abort{f.migration, shortReason(e.Reason)})
		m.Ended = true
	case checkpoint.Removed:
		b.endStay(m, checkpoint.KindRemoved, 0, f.wallMS)
		m.Ended, m.removed = true, true
	case checkpoint.AbortBegun, checkpoint.Compensated:
		b.endStay(m, checkpoint.KindOf(e), 0, f.wallMS)
	}
	return true
}

// outlineOf returns the outline of a checkpoint in an unusual encoding.
func outlineOf(c checkpoint.Checkpoint) checkpoint.Outline {
	o := checkpoint.Outline{MigrationID: c.MigrationID, TimestampMS: c.TimestampMS, Attempt: c.Attempt, VShardID: c.Payload.Shard(), Phase: c.Phase()}
	if p, ok := c.Payload.(checkpoint.AddLearner); ok {
		o.HasSource, o.SourceNode = true, p.SourceNode
	}
	o.TargetNode, o.SourceGroup, o.HasTarget = checkpoint.TargetOf(c.Payload)
	return o
}

// addCheckpoint adds a checkpoint. Package story has the same rules for a checkpoint that restores
// facts, and for the row after it.
func (b *Builder) addCheckpoint(migration uint32, o *checkpoint.Outline) {
	m := &b.migrations[migration]
	restores, confirms := checkpoint.RestoresFacts(o.Phase, o.Attempt), m.facts
	m.facts = restores
	if m.Began && m.Phase == 0 {
		b.totals.Begun++
	}
	b.totals.Phases[o.Phase]++
	if restores {
		if m.Began && m.Phase == 0 {
			m.Phase, m.Furthest = o.Phase, o.Phase
		}
		b.addPlaces(m, o)
		return
	}
	b.endStay(m, checkpoint.KindUpserted, o.Phase, o.TimestampMS)
	if o.Attempt > 0 && !confirms {
		b.totals.Retries++
	}
	m.Phase, m.Furthest = o.Phase, max(m.Furthest, o.Phase)
	m.CheckpointMS, m.StayMS, m.InPhase = o.TimestampMS, 0, true
	b.addPlaces(m, o)
}

// addRestored adds a restored row. The tries before it do not count. Package story has the same rules.
func (b *Builder) addRestored(migration uint32, e checkpoint.Restored) {
	o, f := outlineOf(e.Checkpoint), e.Facts
	o.HasSource, o.SourceNode = f.HasSource, f.SourceNode
	o.HasTarget, o.TargetNode, o.SourceGroup = f.HasTarget, f.TargetNode, f.SourceGroup
	if !checkpoint.RestoresFacts(o.Phase, o.Attempt) {
		o.Attempt = 0
	}
	b.addCheckpoint(migration, &o)
	m := &b.migrations[migration]
	m.Furthest, m.Several = f.FurthestPhase, m.Several || len(f.Targets) > 0
	if f.Abort != nil && !f.Abort.BeforeCheckpoint && m.InPhase {
		m.closeStay(f.Abort.TimestampMS)
	}
}

// addPlaces records the vShard and the nodes that a checkpoint names.
func (b *Builder) addPlaces(m *incarnation, o *checkpoint.Outline) {
	if m.HasVShard && m.VShardID != o.VShardID || m.HasSource && o.HasSource && m.SourceNode != o.SourceNode ||
		m.HasTarget && o.HasTarget && (m.TargetNode != o.TargetNode || m.SourceGroup != o.SourceGroup) {
		m.Several = true
	}
	m.VShardID, m.HasVShard = o.VShardID, true
	if o.HasSource && !m.HasSource {
		m.SourceNode, m.HasSource = o.SourceNode, true
	}
	if o.HasTarget && !m.HasTarget {
		m.TargetNode, m.SourceGroup, m.HasTarget = o.TargetNode, o.SourceGroup, true
	}
}

// endStay ends the open stay of a migration, because of a record of this kind and, if it is a
// checkpoint, of this phase.
func (b *Builder) endStay(m *incarnation, kind checkpoint.Kind, phase checkpoint.Phase, wallMS uint64) {
	if m.prevSeq != 0 && !m.hasFirst { // the stay began in an earlier segment: see lookUp
		m.hasFirst, m.firstKind, m.firstPhase, m.firstMS = true, kind, phase, wallMS
	}
	if m.InPhase {
		b.addStay(m.Phase, m.CheckpointMS, kind, phase, wallMS)
		m.closeStay(wallMS)
	}
}

// closeStay records the end of the open stay.
func (m *Migration) closeStay(wallMS uint64) {
	m.StayMS, m.CheckpointMS, m.InPhase = int64(wallMS-m.CheckpointMS), 0, false
}

// addStay counts a stay if it is finished.
func (b *Builder) addStay(from checkpoint.Phase, fromMS uint64, kind checkpoint.Kind, to checkpoint.Phase, toMS uint64) {
	finished := to > from
	if from == checkpoint.PhaseComplete {
		finished = kind == checkpoint.KindRemoved
	}
	if finished {
		b.stays[from].Add(toMS - min(fromMS, toMS))
	}
}

// lookUp adds the facts of migrations that began in earlier segments. It asks for them in the order of
// their earlier events, so that prior needs each earlier summary once.
func (b *Builder) lookUp(prior Prior) {
	earlier := b.earlier[:0]
	for i := range b.migrations {
		if b.migrations[i].prevSeq != 0 {
			earlier = append(earlier, &b.migrations[i])
		}
	}
	slices.SortFunc(earlier, func(x, y *incarnation) int { return cmp.Compare(x.prevSeq, y.prevSeq) })
	for _, m := range earlier {
		if p, ok := prior(m.prevSeq, m.ID); ok && !p.Ended {
			b.merge(m, p)
		}
	}
	b.earlier = earlier
}

// merge adds the facts of the migration before this segment.
func (b *Builder) merge(m *incarnation, p Migration) {
	here := m.Migration
	m.Partial = p.Partial
	if m.hasFirst && p.InPhase {
		b.addStay(p.Phase, p.CheckpointMS, m.firstKind, m.firstPhase, m.firstMS)
	}
	if here.Phase != 0 && p.Phase == 0 && !p.Partial {
		b.totals.Begun++
	}
	m.Furthest = max(here.Furthest, p.Furthest)
	if here.Phase == 0 {
		m.Phase, m.CheckpointMS, m.StayMS, m.InPhase = p.Phase, p.CheckpointMS, p.StayMS, p.InPhase
		if m.InPhase && m.hasFirst {
			m.closeStay(m.firstMS)
		}
	}
	m.Several = here.Several || p.Several || here.HasVShard && p.HasVShard && here.VShardID != p.VShardID ||
		here.HasSource && p.HasSource && here.SourceNode != p.SourceNode ||
		here.HasTarget && p.HasTarget && (here.TargetNode != p.TargetNode || here.SourceGroup != p.SourceGroup)
	if !here.HasVShard {
		m.VShardID, m.HasVShard = p.VShardID, p.HasVShard
	}
	if p.HasSource {
		m.SourceNode, m.HasSource = p.SourceNode, true
	}
	if p.HasTarget {
		m.TargetNode, m.SourceGroup, m.HasTarget = p.TargetNode, p.SourceGroup, true
	}
}

// encode returns the sections. It returns false if the filter cannot be built.
func (b *Builder) encode(head segment.SummaryHead) (segment.Summary, bool) {
	b.countRemovals()
	b.groupAborts()
	b.listPlaces()
	b.keys = b.keys[:0]
	for i := range b.migrations {
		b.keys = append(b.keys, filterKey(&b.migrations[i].ID))
	}
	to, err := &b.sections, error(nil)
	if to[sectionFilter], err = appendFilter(to[sectionFilter][:0], &b.fuse, b.keys); err != nil {
		return segment.Summary{}, false
	}
	to[sectionTotals] = appendTotals(to[sectionTotals][:0], &b.totals)
	to[sectionStays] = to[sectionStays][:0]
	for phase := checkpoint.PhaseAddLearner; phase <= checkpoint.PhaseComplete; phase++ {
		to[sectionStays] = b.stays[phase].Append(to[sectionStays])
	}
	to[sectionMigrations] = appendMigrations(to[sectionMigrations][:0], b.migrations)
	to[sectionFrames] = appendFrames(to[sectionFrames][:0], b.frames, len(b.migrations))
	return segment.Summary{SummaryHead: head, Sections: *to}, true
}

// countRemovals counts the removals at Complete.
func (b *Builder) countRemovals() {
	for i := range b.migrations {
		if m := &b.migrations[i]; m.removed && m.Phase == checkpoint.PhaseComplete {
			b.totals.RemovedDone++
		}
	}
}

// groupAborts groups the aborts of migrations with a row.
func (b *Builder) groupAborts() {
	var table abortTable
	for _, a := range b.aborts {
		m := &b.migrations[a.migration]
		if m.Phase == 0 && !m.Partial {
			continue // no row
		}
		b.totals.Aborted++
		table.add(AbortGroup{Reason: a.reason, Phase: m.Phase, HasTarget: m.HasTarget, TargetNode: m.TargetNode}, m.StayMS)
	}
	b.totals.Aborts = table.groups
}

// listPlaces lists the vShards and the nodes of all migrations. If not all events of a migration are
// known, or if it has several vShards or nodes, it may have any of them.
func (b *Builder) listPlaces() {
	vShards, nodes := make([]uint32, 0, len(b.migrations)), make([]uint64, 0, 2*len(b.migrations))
	t := &b.totals
	for i := range b.migrations {
		m := &b.migrations[i]
		if m.Partial || m.Several {
			t.AnyVShard, t.AnyNode = true, true
			return
		}
		if m.HasVShard {
			vShards = append(vShards, m.VShardID)
		}
		if m.HasSource {
			nodes = append(nodes, m.SourceNode)
		}
		if m.HasTarget {
			nodes = append(nodes, m.TargetNode)
		}
	}
	t.VShards, t.AnyVShard = limited(vShards)
	t.Nodes, t.AnyNode = limited(nodes)
}

// shortReason returns the beginning of a reason. It does not cut within a character.
func shortReason(reason string) string {
	if len(reason) <= maxReasonBytes {
		return strings.Clone(reason)
	}
	return strings.ToValidUTF8(reason[:maxReasonBytes], "")
}
