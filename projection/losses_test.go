package projection

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

// D5: losses equals a model, a set of seqs, for random losses that are attributed in random order.
func TestD5_LossesEqualASet(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		var l losses
		lost, open := map[uint64]bool{}, map[uint64]bool{}
		end := uint64(0)
		for range 60 {
			switch rng.IntN(8) {
			case 0, 1:
				first := end + 1 + rng.Uint64N(4)
				end = first + rng.Uint64N(6)
				l.add(first, end)
				for seq := first; seq <= end; seq++ {
					lost[seq], open[seq] = true, true
				}
			case 2:
				if rng.IntN(10) == 0 {
					l.resolve(end)
					clear(open)
				}
			default:
				seq := rng.Uint64N(end + 3)
				require.Equal(t, lost[seq] && seq > l.resolvedThrough, l.attribute(seq), "seq %d", seq)
				delete(open, seq)
			}
			newest := uint64(0)
			for seq := range open {
				newest = max(newest, seq)
			}
			require.Equal(t, newest, l.newestUnattributed())
			after := rng.Uint64N(end + 2)
			through := after + rng.Uint64N(8)
			within := false
			for seq := after + 1; seq <= through; seq++ {
				within = within || open[seq]
			}
			require.Equal(t, within, l.unattributedIn(after, through), "(%d, %d]", after, through)
		}
	}
}

// A view that forgets ended migrations keeps no state of them after a loss, and has the same rows with
// the same doubts.
func TestView_ForgetEnded(t *testing.T) {
	views := []*View{New(), New()}
	views[1].ForgetEnded()
	for _, v := range views {
		v.MarkLost(1, 1)
		for i := range uint64(100) {
			id := checkpoint.MigrationID{1, byte(i)}
			v.Apply(2+2*i, 0, checkpoint.AbortBegun{MigrationID: id})
			v.Apply(3+2*i, 2+2*i, checkpoint.Removed{MigrationID: id})
		}
	}
	require.Equal(t, 100, views[0].rowless.size)
	require.Zero(t, views[1].rowless.size)
	require.Equal(t, views[0].All(), views[1].All())
	require.Equal(t, views[0].Suspect(), views[1].Suspect())
	require.Equal(t, InDoubt, views[1].Doubt(checkpoint.MigrationID{9}))
}
