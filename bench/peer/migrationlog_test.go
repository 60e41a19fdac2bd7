package peer

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/replay"
)

var errHistory = errors.New("unreadable")

type sliceStore struct{ err error }

func (s sliceStore) History(ID) ([]replay.Record, error) { return make([]replay.Record, 3), s.err }

type iteratorStore struct{ err error }

func (s iteratorStore) History(context.Context, ID) iter.Seq2[replay.Record, error] {
	return func(yield func(replay.Record, error) bool) {
		for _, err := range []error{nil, nil, s.err} {
			if !yield(replay.Record{}, err) {
				return
			}
		}
	}
}

// The events of both forms of Store.History are counted, and an error of either is returned.
func TestCountHistory(t *testing.T) {
	for _, store := range []any{sliceStore{}, iteratorStore{}} {
		n, err := countHistory(store, ID{})
		require.NoError(t, err)
		require.Equal(t, 3, n)
	}
	for _, store := range []any{sliceStore{errHistory}, iteratorStore{errHistory}} {
		_, err := countHistory(store, ID{})
		require.ErrorIs(t, err, errHistory)
	}
	_, err := countHistory(struct{}{}, ID{})
	require.ErrorContains(t, err, "no History")
}
