package main

func eventMutants() []mutant {
	const follower, webhook, file, cursor = "tlog/events/follower.go", "tlog/events/webhook.go", "tlog/events/file.go", "storage/mysql/cursor.go"
	followers := []tests{{pkg: "./tlog/events", run: "TestFollower|TestBegin|TestRestored|TestSinkFails|TestCursorFails"}}
	hooks := []tests{{pkg: "./tlog/events", run: "TestWebhook"}}
	return []mutant{
		{"events/cursor-before-sync", "the cursor moves behind events that a crash would take", []edit{
			{follower, "if err := f.cfg.Sink.Sync(); err != nil {", "if err := error(nil); err != nil {"},
		}, followers},
		{"events/entry-passed-over", "an event that a sink refuses is passed over", []edit{
			{follower, "				f.failed(ctx, err)\n			}\n			continue\n", "				f.failed(ctx, err)\n				next++\n			}\n			continue\n"},
		}, followers},
		{"events/beginning-lost", "a new sink has no cursor until something is delivered", []edit{
			{follower, "			err = cfg.Cursor.Create(ctx, first)\n", "			f.next.Store(first)\n			return f, nil\n"},
		}, followers},
		{"events/older-log-accepted", "a cursor beyond the log waits in silence", []edit{
			{follower, "if err == nil && next > size {", "if false {"},
		}, followers},
		{"events/redirect-followed", "events go to where the receiver says", []edit{
			{webhook, "return http.ErrUseLastResponse", "return nil"},
		}, hooks},
		{"events/url-in-error", "what is in the query of the webhook's URL is logged", []edit{
			{webhook, "			err = outer.Err\n", "			err = outer\n"},
		}, hooks},
		{"events/torn-line-kept", "what follows a line that a crash has cut off is appended to it", []edit{
			{file, "		f.file, f.torn = file, true\n", "		f.file, f.torn = file, false\n"},
		}, []tests{{pkg: "./tlog/events", run: "TestFile"}}},
		{"events/cursor-moved-by-anybody", "a replica whose lease has ended moves the cursor back", []edit{
			{cursor, "WHERE name = ? AND version = ?\", to, c.terms.name, from)", "WHERE name = ?\", to, c.terms.name)"},
		}, []tests{{pkg: "./storage/mysql", run: "TestCursor"}}},
	}
}
