package peer_test

import (
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/bench/eventgen"
	"migrationlog/bench/peer"
)

// Every peer does the same job: after a close it has all imported and all acknowledged events. That
// holds for a second round as well.
func TestPeers_LoadWhatWasAcknowledged(t *testing.T) {
	for _, p := range peer.All() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			want := map[peer.ID][]byte{}
			var mu sync.Mutex
			acknowledged := func(op eventgen.Op) {
				mu.Lock()
				defer mu.Unlock()
				delete(want, op.ID)
				if !op.Ends {
					want[op.ID] = op.Value
				}
			}
			imported, left := eventgen.New(1, 200), 12_345
			require.NoError(t, p.Import(dir, func() (eventgen.Op, bool, error) {
				if left == 0 {
					return eventgen.Op{}, false, nil
				}
				left--
				op, err := imported.Next()
				require.NoError(t, err)
				require.NoError(t, op.Encode())
				acknowledged(op)
				return op, true, nil
			}, nil))

			const writers = 8
			for round := range 2 {
				s := open(t, p, dir, writers)
				requireRows(t, want, s)
				var all sync.WaitGroup
				for w := range writers {
					all.Go(func() {
						events := eventgen.New(uint64(100*round+w+2), 5)
						for range 50 {
							op, err := events.Next()
							if err == nil {
								err = op.Encode()
							}
							if err == nil {
								err = s.Apply(&op)
							}
							if err != nil {
								t.Error(err)
								return
							}
							acknowledged(op)
						}
					})
				}
				all.Wait()
				require.NoError(t, s.Close())
			}

			s := open(t, p, dir, 1)
			requireRows(t, want, s)
			if g, ok := s.(peer.Getter); ok {
				n, err := g.All()
				require.NoError(t, err)
				require.Len(t, want, n)
				_, ok, err := g.Get(imported.ID(0), nil)
				require.NoError(t, err)
				_, has := want[imported.ID(0)]
				require.Equal(t, has, ok)
			}
			if h, ok := s.(peer.Historian); ok {
				events := 0
				for place := range 10 {
					n, err := h.History(imported.ID(place))
					require.NoError(t, err)
					events += n
				}
				require.GreaterOrEqual(t, events, 9, "all but one of them have a row")
			}
			require.NoError(t, s.Close())
			size, allocated, err := peer.DirBytes(dir)
			require.NoError(t, err)
			require.Positive(t, size)
			require.Positive(t, allocated)
		})
	}
}

func open(t *testing.T, p peer.Peer, dir string, writers int) peer.Store {
	require.NoError(t, os.MkdirAll(dir, 0o700))
	s, err := p.Open(dir, peer.Options{Writers: writers})
	require.NoError(t, err)
	return s
}

func requireRows(t *testing.T, want map[peer.ID][]byte, s peer.Store) {
	_, n, err := s.Load()
	require.NoError(t, err)
	require.Len(t, want, n)
	got, err := s.Rows()
	require.NoError(t, err)
	require.Equal(t, want, got)
}
