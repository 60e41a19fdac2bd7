package shard

import (
	"fmt"
	"strconv"
	"strings"

	"migrationlog/examples/shardmover/wire"
)

// ReplicaID identifies a replica. A replica that is added again gets another Tag, so an old peer, vote
// or membership change can never be taken for one of the new replica. Its text is the server id, the
// server address, and the service of the connection.
type ReplicaID struct {
	Node, Group uint64
	Tag         string // the id of the migration that added the replica, or FirstTag
}

// FirstTag is the tag of the replicas that a group begins with.
const FirstTag = "first"

func (id ReplicaID) String() string {
	return fmt.Sprintf("%s/group-%d/%s", wire.NodeName(id.Node), id.Group, id.Tag)
}

// MarshalText and UnmarshalText use the form of String.
func (id ReplicaID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

func (id *ReplicaID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseReplicaID(string(text))
	return err
}

// ParseReplicaID reads the form of String. The empty text is the zero id.
func ParseReplicaID(text string) (id ReplicaID, err error) {
	if text == "" || text == (ReplicaID{}).String() {
		return ReplicaID{}, nil
	}
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return id, fmt.Errorf("replica id %q does not have three parts", text)
	}
	if id.Node, err = strconv.ParseUint(strings.TrimPrefix(parts[0], "node-"), 10, 64); err != nil {
		return id, fmt.Errorf("replica id %q: %w", text, err)
	}
	if id.Group, err = strconv.ParseUint(strings.TrimPrefix(parts[1], "group-"), 10, 64); err != nil {
		return id, fmt.Errorf("replica id %q: %w", text, err)
	}
	id.Tag = parts[2]
	return id, nil
}
