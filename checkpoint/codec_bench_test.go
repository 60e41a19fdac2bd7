package checkpoint_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

// BenchmarkAppendEvent encodes one event of each kind and payload into memory that is already
// allocated. The reference encodes by reflection, into new memory.
func BenchmarkAppendEvent(b *testing.B) {
	eachGoldenEvent(b, func(b *testing.B, e checkpoint.Event, _ []byte) {
		var dst []byte
		for b.Loop() {
			dst, _ = checkpoint.AppendEvent(dst[:0], e)
		}
	})
}

func BenchmarkReferenceEncodeEvent(b *testing.B) {
	eachGoldenEvent(b, func(b *testing.B, e checkpoint.Event, _ []byte) {
		for b.Loop() {
			_, _ = checkpoint.ReferenceEncodeEvent(e)
		}
	})
}

// Decoding of one event of each kind and payload, and the same by reflection.
func BenchmarkDecodeEvent(b *testing.B) {
	eachGoldenEvent(b, func(b *testing.B, _ checkpoint.Event, encoded []byte) {
		for b.Loop() {
			_, _ = checkpoint.DecodeEvent(encoded)
		}
	})
}

func BenchmarkReferenceDecodeEvent(b *testing.B) {
	eachGoldenEvent(b, func(b *testing.B, _ checkpoint.Event, encoded []byte) {
		for b.Loop() {
			_, _ = checkpoint.ReferenceDecodeEvent(encoded)
		}
	})
}

// BenchmarkCheck compares with BenchmarkDecodeEvent.
func BenchmarkCheck(b *testing.B) {
	eachGoldenEvent(b, func(b *testing.B, _ checkpoint.Event, encoded []byte) {
		for b.Loop() {
			_ = checkpoint.Check(encoded)
		}
	})
}

// BenchmarkUpserted measures the encoding in Store.Upsert and the checksum that the caller computes.
func BenchmarkUpserted(b *testing.B) {
	c := goldenEvents(b)["Upserted AddLearner"].(checkpoint.Upserted).Checkpoint
	b.Run("AppendUpserted", func(b *testing.B) {
		b.ReportAllocs()
		var dst []byte
		for b.Loop() {
			dst, _ = checkpoint.AppendUpserted(dst[:0], &c)
		}
	})
	b.Run("PayloadCRC32C", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = checkpoint.PayloadCRC32C(c.Payload)
		}
	})
	b.Run("EncodeEvent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = checkpoint.EncodeEvent(checkpoint.Upserted{Checkpoint: c})
		}
	})
}

// BenchmarkDecodeUpserted measures the decoding of a row of a snapshot.
func BenchmarkDecodeUpserted(b *testing.B) {
	encoded, err := checkpoint.EncodeEvent(goldenEvents(b)["Upserted AddLearner"])
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = checkpoint.DecodeUpserted(encoded)
	}
}

// BenchmarkReadOutline measures the decoding of an event for a summary.
func BenchmarkReadOutline(b *testing.B) {
	eachGoldenEvent(b, func(b *testing.B, _ checkpoint.Event, encoded []byte) {
		for b.Loop() {
			_, _ = checkpoint.ReadOutline(encoded)
		}
	})
}

// BenchmarkPeek measures the work of a rebuild for an event that it need not decode.
func BenchmarkPeek(b *testing.B) {
	encoded, err := checkpoint.EncodeEvent(goldenEvents(b)["Upserted AddLearner"])
	require.NoError(b, err)
	b.Run("PeekKind", func(b *testing.B) {
		for b.Loop() {
			checkpoint.PeekKind(encoded)
		}
	})
	b.Run("Peek", func(b *testing.B) {
		for b.Loop() {
			checkpoint.Peek(encoded)
		}
	})
	b.Run("PeekEpoch", func(b *testing.B) {
		for b.Loop() {
			checkpoint.PeekEpoch(encoded)
		}
	})
	inEpoch := checkpoint.AppendEpoch(append([]byte{}, encoded...), 300)
	b.Run("PeekEpoch of an event in an epoch", func(b *testing.B) {
		for b.Loop() {
			checkpoint.PeekEpoch(inEpoch)
		}
	})
}

func eachGoldenEvent(b *testing.B, run func(b *testing.B, e checkpoint.Event, encoded []byte)) {
	events := goldenEvents(b)
	for _, name := range slices.Sorted(maps.Keys(events)) {
		encoded, err := checkpoint.EncodeEvent(events[name])
		require.NoError(b, err)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			run(b, events[name], encoded)
		})
	}
}
