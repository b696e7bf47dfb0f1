package main

func policyMutants() []mutant {
	rules := []tests{{pkg: "./ca/policy", run: "TestRules|TestFailures|TestMistakes|TestAdmit|TestVariables|TestUnreadable"}}
	limited := []tests{{pkg: "./ca/policy", run: "Limit|TestSwap"}}
	buckets := []tests{{pkg: "./ca/limit"}, {pkg: "./ca/policy", run: "Limit|TestSwap"}}
	const file, expression, claims, limits, limit = "ca/policy/policy.go", "ca/policy/expression.go", "ca/policy/claims.go", "ca/policy/limits.go", "ca/limit/limit.go"
	return []mutant{
		{"ca/policy-not-asked", "a certificate is issued without asking the policy", []edit{
			{"ca/issue.go", "	if c.policy != nil {", "	if false {"},
		}, []tests{{pkg: "./ca", run: "TestPolicyDecides"}}},
		{"ca/policy-overruled", "a certificate is issued although the policy refuses", []edit{
			{"ca/issue.go", "		if err := c.policy.Admit(ctx, req.Identity); err != nil {\n			return nil, err\n		}\n", "		_ = c.policy.Admit(ctx, req.Identity)\n"},
		}, []tests{{pkg: "./ca", run: "TestPolicyDecides"}}},
		{"cmd/policy-not-wired", "the policy of the configuration is compiled, and not given to the CA", []edit{
			{"cmd/sigstack/reload.go", "	if next.policy != nil {", "	if false {"},
		}, []tests{{pkg: "./test/e2e", run: "TestPolicy$"}}},
		{"ca/policy/deny-ignored", "a rule that denies admits", []edit{
			{file, "		case met && r.Deny != \"\":", "		case false:"},
		}, rules},
		{"ca/policy/default-ignored", "whom no rule admits is admitted", []edit{
			{file, "		p.byDefault = Denied\n", "		p.byDefault = Allowed\n"},
		}, rules},
		{"ca/policy/failure-ignored", "a rule that cannot be evaluated is passed over", []edit{
			{file, "		case err != nil:\n			return Decision{Rule: r.Name, Outcome: Failed, Message: err.Error()}, nil\n", "		case err != nil:\n			continue\n"},
		}, rules},
		{"ca/policy/failure-admits", "a rule that cannot be evaluated admits", []edit{
			{file, "	if d.Outcome == Allowed || d.DryRun {", "	if d.Outcome == Allowed || d.Outcome == Failed || d.DryRun {"},
		}, rules},
		{"ca/policy/order-ignored", "the last rule that is true decides", []edit{
			{file, "	for i := range p.rules {\n		r := &p.rules[i]\n", "	for i := range p.rules {\n		r := &p.rules[len(p.rules)-1-i]\n"},
		}, rules},
		{"ca/policy/issuers-ignored", "a rule is asked about tokens of other issuers", []edit{
			{file, "		if !r.covers(who.Issuer()) {", "		if false {"},
		}, rules},
		{"ca/policy/dry-run-enforced", "dry-run refuses", []edit{
			{file, "	if d.Outcome == Allowed || d.DryRun {", "	if d.Outcome == Allowed {"},
		}, rules},
		{"ca/policy/dry-run-always", "nobody is ever refused", []edit{
			{file, "	d.DryRun = p.dryRun\n", "	d.DryRun = true\n"},
		}, rules},
		{"ca/policy/not-observed", "a refusal is not counted", []edit{
			{file, "	p.observe(ctx, id, d)\n", "	if d.Outcome == Allowed {\n		p.observe(ctx, id, d)\n	}\n"},
		}, rules},
		{"ca/policy/cost-without-bound", "an expression may take as long as the claims make it", []edit{
			{expression, "cel.CostLimit(maxCost), ", ""},
			{file, "		case err == nil && cost > left:", "		case false:"},
		}, rules},
		{"ca/policy/cost-of-each-rule", "each rule may cost as much as all together", []edit{
			{file, "		left -= min(left, cost)\n", ""},
		}, rules},
		{"ca/policy/estimate-ignored", "an expression that costs too much with usual claims is accepted", []edit{
			{expression, "	if err != nil || estimate.Max > maxCost {", "	if err != nil {"},
		}, rules},
		{"ca/policy/pattern-of-a-claim", "a claim may be a regular expression", []edit{
			{expression, "			if args[len(args)-1].Kind() != celast.LiteralKind {", "			if false {"},
		}, rules},
		{"ca/policy/any-type", "an expression need not be true or false", []edit{
			{expression, "	if !ast.OutputType().IsExactType(cel.BoolType) {", "	if false {"},
		}, rules},
		{"ca/policy/extension-not-checked", "a rule may ask for an extension that there is not", []edit{
			{expression, "	if slices.Contains(ext.Keys(), name) {", "	if true {"},
		}, rules},
		{"ca/policy/context-ignored", "an evaluation goes on for a client that has gone", []edit{
			{file, "		case ctx.Err() != nil:", "		case false:"},
		}, []tests{{pkg: "./ca/policy", run: "TestEndedContext"}}},
		{"ca/policy/member-twice", "of a nested member that stands twice the last counts", []edit{
			{claims, "		if _, twice := members[name]; twice || null[name] {", "		if false {"},
		}, rules},
		{"ca/policy/nesting-without-bound", "claims may be nested to any depth", []edit{
			{claims, "		case depth == maxNesting:", "		case false:"},
		}, rules},
		{"ca/policy/number-rounded", "two large numbers are the same", []edit{
			{claims, "		return types.NewErr(\"a claim is a whole number of more than 64 bits\")\n", ""},
		}, rules},
		{"ca/policy/surrogate-replaced", "two texts that are not Unicode are the same", []edit{
			{claims, "		if err == nil && strings.ContainsRune(text, utf8.RuneError) {", "		if false {"},
		}, rules},
		{"ca/limit/off", "a limit refuses nobody", []edit{
			{limit, "w > wait {", "w < 0 {"},
		}, buckets},
		{"ca/policy/limit-not-asked", "the limits are not asked", []edit{
			{file, "	if d.Outcome == Allowed {\n		p.limit(id, now, &d)\n	}\n", ""},
		}, rules},
		{"ca/limit/takes-when-refusing", "who is limited empties the other bucket", []edit{
			{limit, "	if wait > 0 {\n		return longest, wait\n	}\n	for i, b := range from {\n		b.of.set(b.key, full[i], now)\n	}\n	return 0, 0\n", "	for i, b := range from {\n		b.of.set(b.key, full[i], now)\n	}\n	return longest, wait\n"},
		}, buckets},
		{"ca/policy/limit-without-issuer", "two issuers' identities of one name share a bucket", []edit{
			{limits, "l.Bucket(who.Issuer(), san.Kind.String(), san.Value)", "l.Bucket(san.Kind.String(), san.Value)"},
		}, limited},
		{"ca/limit/bucket-overflows", "a bucket that is not used fills beyond its brim", []edit{
			{limit, "b := l.buckets[k]; b != nil && b.full.After(now) {", "b := l.buckets[k]; b != nil {"},
		}, buckets},
		{"ca/limit/clock-set-back", "a clock that was set back locks an identity out", []edit{
			{limit, "		if b.full.After(empty) { // the clock was set back", "		if false {"},
		}, buckets},
		{"ca/limit/buckets-without-bound", "every identity that ever came is remembered", []edit{
			{limit, "	if len(l.fullest) >= l.most {", "	if false {"},
		}, buckets},
		{"ca/limit/emptiest-forgotten", "the bucket that is emptiest is forgotten first", []edit{
			{limit, "return h[i].full.Before(h[j].full)", "return h[j].full.Before(h[i].full)"},
		}, buckets},
		{"ca/limit/counters-lost", "a limit that stays the same begins anew", []edit{
			{limit, "	case before != nil && before.Limit == l:", "	case false:"},
		}, buckets},
		{"api/denied-as-unavailable", "a client that is denied is told to try again", []edit{
			{"api/status.go", "		return http.StatusForbidden\n", "		return http.StatusServiceUnavailable\n"},
		}, []tests{{pkg: "./api", run: "TestStatus"}}},
		{"api/fulcio/no-retry-after", "a client that is limited is not told for how long", []edit{
			{"api/fulcio/fulcio.go", "		return (refusal.RetryAfter + time.Second - 1).Truncate(time.Second)\n", "		return 0\n"},
		}, []tests{{pkg: "./api/fulcio", run: "TestPolicy"}}},
		{"api/fulcio/refusal-without-reason", "a client that is denied is not told why", []edit{
			{"api/fulcio/fulcio.go", "		return refusal.Error()\n", "		return http.StatusText(httpStatus)\n"},
		}, []tests{{pkg: "./api/fulcio", run: "TestPolicy"}}},
		{"cmd/unknown-issuer-in-rule", "a rule may be for an issuer that there is not", []edit{
			{"cmd/sigstack/policy.go", "			if !slices.ContainsFunc(known, ", "			if false && !slices.ContainsFunc(known, "},
		}, []tests{{pkg: "./cmd/sigstack", run: "TestPolicyMistakes"}}},
	}
}
