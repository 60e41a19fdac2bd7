package recovery

import "time"

// DefaultAbortTimeout is the abort timeout of the zero Policy.
const DefaultAbortTimeout = time.Hour

// Policy has everything besides the history on which the decisions depend. With the zero value, a
// row is stale after DefaultAbortTimeout, membership is not tested, no leader is known, and Plan
// asks if a row is in doubt.
type Policy struct {
	// AbortTimeout is the age beyond which a row is stale. A stale row is aborted only if no
	// earlier rule matches. A row of exactly this age is still fresh. Ages are in whole
	// milliseconds. With a timeout of one nanosecond, every row that is older than the present
	// millisecond is stale. The value 0 selects DefaultAbortTimeout.
	AbortTimeout time.Duration

	// Member reports whether a node is a member of the cluster. If it is nil, membership is not
	// tested. MemberOf returns such a function for a list of nodes. Plan calls Member at most once
	// for each row.
	Member func(node uint64) bool

	// Leader returns the node that leads a group now. The result ok is false if it is not known. If
	// Leader is nil, no leader is known. Ask the group itself. A cached value may name the old
	// leader. Plan may then undo a transfer that has committed. Plan calls Leader at most once for
	// each row.
	Leader func(group uint64) (node uint64, ok bool)

	// TrustDoubt takes rows in doubt and uncertain facts as true. If it is false, Plan asks.
	TrustDoubt bool

	// UnnamedInDoubt is true if the log has lost an event that cannot be attributed to a migration,
	// or that was attributed to a migration without a row. It is a property of the log. Plan then
	// asks which moves of the cluster have no row.
	UnnamedInDoubt bool
}

// MemberOf returns a Policy.Member for a cluster with exactly these nodes.
func MemberOf(nodes ...uint64) func(node uint64) bool {
	members := make(map[uint64]bool, len(nodes))
	for _, n := range nodes {
		members[n] = true
	}
	return func(node uint64) bool { return members[node] }
}

// AbortTimeoutMS returns the abort timeout in whole milliseconds.
func (p *Policy) AbortTimeoutMS() uint64 {
	if p.AbortTimeout == 0 {
		return uint64(DefaultAbortTimeout.Milliseconds())
	}
	return uint64(max(p.AbortTimeout, 0).Milliseconds())
}

// member reports whether a node is a member, or returns nil if membership is not tested.
func (p *Policy) member(node uint64) *bool {
	if p.Member == nil {
		return nil
	}
	return new(p.Member(node))
}

// leader returns the leader of a group, or nil if it is not known.
func (p *Policy) leader(group uint64) *uint64 {
	if p.Leader == nil {
		return nil
	}
	node, ok := p.Leader(group)
	if !ok {
		return nil
	}
	return &node
}
