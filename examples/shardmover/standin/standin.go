// Package standin replaces raftlog until it works. It will be deleted.
package standin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
)

var ErrUnknownOutcome = errors.New("unknown")
var ErrNotProposed = errors.New("nothing was proposed")

type NotLeaderError struct {
	Leader raft.ServerAddress
	Err    error
}

func (e *NotLeaderError) Error() string   { return "not leader" }
func (e *NotLeaderError) Unwrap() []error { return []error{ErrNotProposed, e.Err} }

type Options struct {
	NodeID    string
	OnFailure func(error)
}

type FSM struct {
	store   *migrationlog.Store
	applied atomic.Uint64
}

func Open(dir string, opts *Options) (*FSM, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
	return &FSM{store: s}, err
}

func Configure(*raft.Config, raft.SnapshotStore, *FSM) error { return nil }
func (f *FSM) Store() *migrationlog.Store                    { return f.store }
func (f *FSM) AppliedIndex() uint64                          { return f.applied.Load() }
func (f *FSM) Close() error                                  { return f.store.Close() }
func (f *FSM) Digest() (uint64, [32]byte) {
	h := sha256.New()
	for r := range f.store.Rows() {
		fmt.Fprint(h, r)
	}
	return f.applied.Load(), [32]byte(h.Sum(nil))
}

type entry struct {
	Event   []byte
	IfIndex *uint64
	Free    bool
	InOrder bool
	Strict  bool
	Epoch   uint64
}

type Option func(*entry)

func IfIndex(n uint64) Option { return func(e *entry) { e.IfIndex = &n } }
func Term(n uint64) Option    { return func(e *entry) { e.Epoch = n } }
func IfVShardFree() Option    { return func(e *entry) { e.Free = true } }
func InOrder() Option         { return func(e *entry) { e.InOrder = true } }
func Strict() Option          { return func(e *entry) { e.Strict = true } }

func (f *FSM) Apply(l *raft.Log) any {
	defer f.applied.Store(l.Index)
	var e entry
	if err := gob.NewDecoder(bytes.NewReader(l.Data)).Decode(&e); err != nil {
		panic(err)
	}
	event, err := checkpoint.DecodeEvent(e.Event)
	if err != nil {
		return err
	}
	var opts []migrationlog.WriteOption
	if e.IfIndex != nil {
		opts = append(opts, migrationlog.IfSeq(*e.IfIndex))
	}
	if e.Free {
		opts = append(opts, migrationlog.IfVShardFree())
	}
	if e.InOrder {
		opts = append(opts, migrationlog.InOrder())
	}
	if e.Strict {
		opts = append(opts, migrationlog.Strict())
	}
	if e.Epoch > 0 {
		opts = append(opts, migrationlog.Epoch(e.Epoch))
	}
	var r migrationlog.Receipt
	if _, ok := event.(checkpoint.Upserted); !ok {
		opts = append(opts, migrationlog.WithTimestamp(event.WallMS()))
	}
	switch v := event.(type) {
	case checkpoint.Upserted:
		r, err = f.store.Upsert(v.Checkpoint, opts...)
	case checkpoint.Aborted:
		r, err = f.store.Abort(v.MigrationID, v.Reason, v.Compensations, opts...)
	case checkpoint.AbortBegun:
		r, err = f.store.BeginAbort(v.MigrationID, v.Reason, v.Compensations, opts...)
	case checkpoint.Compensated:
		r, err = f.store.Compensated(v.MigrationID, v.Step, opts...)
	case checkpoint.Removed:
		r, err = f.store.Remove(v.MigrationID, opts...)
	}
	if err != nil {
		return err
	}
	return Receipt{Index: r.Seq, Duplicate: r.Duplicate}
}
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("none") }
func (f *FSM) Restore(io.ReadCloser) error         { panic("restore") }

type Receipt struct {
	Index     uint64
	Duplicate bool
}
type ProposerOptions struct{ Timeout time.Duration }
type Proposer struct {
	r *raft.Raft
	f *FSM
}

func NewProposer(r *raft.Raft, f *FSM, _ *ProposerOptions) *Proposer { return &Proposer{r, f} }
func now() uint64                                                    { return uint64(time.Now().UnixMilli()) }
func (p *Proposer) propose(event checkpoint.Event, opts []Option) (Receipt, error) {
	var e entry
	for _, o := range opts {
		o(&e)
	}
	var err error
	if e.Event, err = checkpoint.AppendEvent(nil, event); err != nil {
		return Receipt{}, err
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(e); err != nil {
		return Receipt{}, err
	}
	fut := p.r.Apply(b.Bytes(), time.Second)
	if err := fut.Error(); err != nil {
		if errors.Is(err, raft.ErrNotLeader) {
			a, _ := p.r.LeaderWithID()
			return Receipt{}, &NotLeaderError{a, err}
		}
		return Receipt{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	switch v := fut.Response().(type) {
	case error:
		return Receipt{}, v
	case Receipt:
		return v, nil
	}
	panic("response")
}
func (p *Proposer) Upsert(ctx context.Context, c checkpoint.Checkpoint, opts ...Option) (Receipt, error) {
	return p.propose(checkpoint.Upserted{Checkpoint: c}, opts)
}
func (p *Proposer) Abort(ctx context.Context, id checkpoint.MigrationID, reason string, comps []checkpoint.Compensation, opts ...Option) (Receipt, error) {
	return p.propose(checkpoint.Aborted{MigrationID: id, Reason: reason, Compensations: comps, TimestampMS: now()}, opts)
}
func (p *Proposer) Remove(ctx context.Context, id checkpoint.MigrationID, opts ...Option) (Receipt, error) {
	return p.propose(checkpoint.Removed{MigrationID: id, TimestampMS: now()}, opts)
}
func (p *Proposer) BeginAbort(ctx context.Context, id checkpoint.MigrationID, reason string, comps []checkpoint.Compensation, opts ...Option) (Receipt, error) {
	return p.propose(checkpoint.AbortBegun{MigrationID: id, Reason: reason, Compensations: comps, TimestampMS: now()}, opts)
}
func (p *Proposer) Compensated(ctx context.Context, id checkpoint.MigrationID, step uint32, opts ...Option) (Receipt, error) {
	return p.propose(checkpoint.Compensated{MigrationID: id, Step: step, TimestampMS: now()}, opts)
}
func (p *Proposer) Recover(ctx context.Context, policy recovery.Policy, h recovery.Handlers) error {
	if err := p.r.Barrier(time.Second).Error(); err != nil {
		return err
	}
	var errs []error
	for _, d := range recovery.Plan(slices.Collect(p.f.store.Rows()), policy, now()) {
		errs = append(errs, p.carryOut(ctx, d, h))
	}
	return errors.Join(errs...)
}
func (p *Proposer) carryOut(ctx context.Context, d recovery.Decision, h recovery.Handlers) error {
	id := d.MigrationID()
	last := d.Row.LastSeq
	switch d.Action {
	case recovery.Resume:
		return h.Resume(ctx, d, h.Epoch)
	case recovery.AskFirst:
		return h.Ask(ctx, d, h.Epoch)
	case recovery.CleanUp:
		if h.CleanUp == nil {
		} else if err := h.CleanUp(ctx, d, h.Epoch); err != nil {
			return err
		}
		_, err := p.Remove(ctx, id, IfIndex(last), Term(h.Epoch))
		return err
	}
	abort := d.Row.Facts.Abort
	if abort == nil {
		abort = &projection.AbortProgress{Reason: string(d.Reason), Compensations: d.Compensations, Done: make([]bool, len(d.Compensations))}
		r, err := p.BeginAbort(ctx, id, abort.Reason, abort.Compensations, IfIndex(last), Term(h.Epoch))
		if err != nil {
			return err
		}
		last = r.Index
	}
	for i, c := range abort.Compensations {
		if abort.Done[i] {
			continue
		}
		if err := h.Compensate(ctx, recovery.Step{MigrationID: id, Step: uint32(i), Compensation: c, Reason: abort.Reason, Epoch: h.Epoch, Decision: d}); err != nil {
			return err
		}
		r, err := p.Compensated(ctx, id, uint32(i), IfIndex(last), Term(h.Epoch))
		if err != nil {
			return err
		}
		last = r.Index
	}
	_, err := p.Abort(ctx, id, abort.Reason, abort.Compensations, IfIndex(last), Term(h.Epoch))
	return err
}
