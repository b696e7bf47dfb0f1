package mysql_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sigstack/sigstack/test/harness"
	"github.com/sigstack/sigstack/tlog"
)

// eventually asks until the answer is yes: another process is at work.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("no %s within 30 seconds", what)
		}
	}
}

// TestTrillian has an unmodified log server and log signer of Trillian work on
// a log that this package made. They sequence what we queued, we read what they
// wrote, and while both append each leaf gets one place.
func TestTrillian(t *testing.T) {
	ctx := t.Context()
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	s := openLog(t, openDB(t, dsn, time.Now), "rekorv1")
	placed := map[string]tlog.Placed{}
	add := func(ns ...int) []tlog.Placed {
		t.Helper()
		var leaves []tlog.Leaf
		for _, n := range ns {
			leaves = append(leaves, leaf(n))
		}
		out, _, err := s.Append(ctx, leaves)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range out {
			placed[string(leaves[i].Value)] = p
		}
		return out
	}
	size := func() uint64 {
		head, err := s.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return head.Size
	}
	add(0, 1, 2)

	// What is queued waits, for nobody sequences.
	var queued []tlog.Leaf
	for n := 3; n < 10; n++ {
		queued = append(queued, leaf(n))
	}
	if err := s.Enqueue(ctx, queued); err != nil {
		t.Fatal(err)
	}
	if n := size(); n != 3 {
		t.Fatalf("size %d, want 3", n)
	}
	rpc := harness.FreeAddr(t)
	start := func(name string, args ...string) {
		args = append(args, "--mysql_uri="+dsn, "--quota_system=noop", "--http_endpoint=")
		harness.StartProcess(t, t.TempDir(), nil, filepath.Join(harness.Root(t), ".tools", "bin", name), args...)
	}
	start("trillian_log_signer", "--rpc_endpoint="+harness.FreeAddr(t), "--force_master", "--sequencer_interval=10ms")
	eventually(t, "integration of what we queued by the signer", func() bool { return size() == 10 })
	if out := add(3, 9); !out[0].Dup || out[0].Index != 3 || out[1].Index != 9 {
		t.Fatalf("leaves that the signer sequenced lie at %v, want 3 and 9", out)
	}

	// The server queues, its signer sequences, we append in between.
	start("trillian_log_server", "--rpc_endpoint="+rpc)
	conn, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	server := trillian.NewTrillianLogClient(conn)
	waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for n := 10; n < 40; n++ {
		l := leaf(n)
		id := tlog.LeafHash(l.Value)
		_, err := server.QueueLeaf(waiting, &trillian.QueueLeafRequest{LogId: s.TreeID(), Leaf: &trillian.LogLeaf{
			LeafValue: l.Value, ExtraData: l.Extra, LeafIdentityHash: id[:]}}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		if out := add(n, 100+n); !out[0].Dup || out[1].Dup {
			t.Fatalf("%v", out)
		}
	}
	eventually(t, "integration of everything", func() bool { return size() == 70 })
	checkWhole(t, s, 70, placed)

	// The server reads what we wrote, and says the same of the tree.
	head, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	latest, err := server.GetLatestSignedLogRoot(waiting, &trillian.GetLatestSignedLogRootRequest{LogId: s.TreeID()})
	if err != nil {
		t.Fatal(err)
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(latest.SignedLogRoot.LogRoot); err != nil {
		t.Fatal(err)
	}
	if root.TreeSize != 70 || tlog.Hash(root.RootHash) != head.Root {
		t.Errorf("the server has size %d and root %x, we have %v", root.TreeSize, root.RootHash, head)
	}
	got, err := server.GetLeavesByRange(waiting, &trillian.GetLeavesByRangeRequest{LogId: s.TreeID(), StartIndex: 0, Count: 70})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := s.Entries(ctx, 0, 70)
	if err != nil {
		t.Fatal(err)
	}
	tile, err := s.Tile(ctx, 0, 0, 70)
	if err != nil || len(tile) != 70 {
		t.Fatalf("tile of %d hashes, %v", len(tile), err)
	}
	for i, l := range got.Leaves {
		e := entries[i]
		if string(l.LeafValue) != string(e.Value) || string(l.ExtraData) != string(e.Extra) || !l.IntegrateTimestamp.AsTime().Equal(e.Time) || tile[i] != tlog.Hash(l.MerkleLeafHash) {
			t.Errorf("entry %d: the server has %v, we have %v and hash %x", i, l, e, tile[i])
		}
	}
}

// TestUnnamed sequences leaves that a server without the tag batched_queue has
// queued: at the start, and while we run.
func TestUnnamed(t *testing.T) {
	dsn := slow(harness.SharedMariaDB(t).NewDatabase(t))
	s := openLog(t, openDB(t, dsn, time.Now), "ct")
	db := raw(t, dsn)
	unname := func(n int) {
		t.Helper()
		if err := s.Enqueue(t.Context(), []tlog.Leaf{leaf(n)}); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("UPDATE Unsequenced SET QueueID = NULL"); err != nil {
			t.Fatal(err)
		}
	}
	unname(0)
	again := openLog(t, openDB(t, dsn, time.Now), "ct")
	if n := table(t, db, "SELECT COUNT(*) FROM Unsequenced WHERE QueueID IS NULL"); n[0] != "[{0 true}]" {
		t.Errorf("%s leaves have no name after opening", n)
	}
	unname(1)
	placed, head, err := again.Append(t.Context(), []tlog.Leaf{leaf(2), leaf(0)})
	if err != nil || head.Size != 3 || placed[0].Index != 2 || placed[1].Index != 0 || !placed[1].Dup {
		t.Fatalf("%v in a tree of %d, %v", placed, head.Size, err)
	}
	if hashes := table(t, db, "SELECT HEX(LeafIdentityHash) FROM LeafData l WHERE NOT EXISTS (SELECT 1 FROM SequencedLeafData s WHERE s.LeafIdentityHash = l.LeafIdentityHash)"); len(hashes) != 0 {
		t.Errorf("not in the tree: %s", strings.Join(hashes, fmt.Sprintln()))
	}
}
