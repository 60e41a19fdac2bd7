package migrationlog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Of calls with many writes one goes with the single ones, and the next with the next.
func TestQueue_ManyWritesGoOneByOne(t *testing.T) {
	q := queue{busy: true}
	call := func(writes int) *write {
		w := &write{}
		if writes > 1 {
			w.next = &write{}
		}
		_, err := q.join(w)
		require.NoError(t, err)
		return w
	}
	first, single, second, third, last := call(2), call(1), call(2), call(2), call(1)
	require.Equal(t, []*write{first, single, last}, q.take())
	again := call(1)
	require.Equal(t, []*write{second, again}, q.take())
	require.Equal(t, []*write{third}, q.take())
	require.Empty(t, q.take())
}

// Where the others do not come there is no more waiting for a while; that the last of many is
// late is no reason to give it up.
func TestQueue_WhoDoesNotComeIsNotWaitedFor(t *testing.T) {
	for _, tc := range []struct {
		present, expected int
		missed, hurried   int // after two rounds of it
	}{
		{1, 2, 2, 4},
		{1, 64, 2, 4},
		{32, 64, 2, 4},
		{33, 64, 0, 0},
		{63, 64, 0, 0},
	} {
		var q queue
		for range tc.present {
			q.waiting = append(q.waiting, &write{})
		}
		for range 2 {
			q.busy, q.expected = false, tc.expected
			require.Same(t, q.waiting[0], q.outwait(0, 0), "the first decides for those that came")
			require.True(t, q.busy)
		}
		require.Equal(t, tc.missed, q.missed, "%+v", tc)
		require.Equal(t, tc.hurried, q.hurried, "%+v", tc)
		require.Nil(t, q.outwait(0, 0), "the batch has begun")
	}
}
