# What headers tell a client of its limits, in each dialect, on answers and on
# refusals; what a cloud tells of the operator's account stays here.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use Test::More;
use Time::HiRes 'time';
use Time::Local 'timegm';

my $t = Hybrid->new;
my $odd = HybridOdd->new($t, 'odd');
my $forge = $t->backend('forge', models => 'f', tokens => 3);

my %line = (
    whole => 'rate 60r/m burst=30; tokens 6000/m burst=3000; concurrency 4;'
        . ' budget 5.00/d;',
    single => 'rate 1r/h; tokens 1M/d;',
    words => 'rate 1r/s burst=50; tokens 600/m;',
    month => 'budget 0.000002/M;',
    slots => 'concurrency 1; rate 100r/s burst=100;',
    spare => 'rate 1r/h burst=9; concurrency 2;',
    free => '',
);

my %as = map { $_ => $t->token($_) } keys %line;
my $clients = join '', map { "hybrid_client $_ { $as{$_}{line} models *;"
    . " egress any; $line{$_} }\n" } sort keys %line;
my $backends = <<"END";
    hybrid_backend forge { pass http://$forge->{addr}; probe off; }
    hybrid_backend o { pass http://$odd->{addr}; probe off; }
    hybrid_backend paid { pass http://$forge->{addr}; probe off;
        api openai; egress cloud; price output=1; rename p f; }
    hybrid_route f forge;
    hybrid_route p paid;
    hybrid_route o o;
END

$t->start(workers => 1, http => $clients . $backends);

my %path = (ollama => '/api/chat', openai => '/v1/chat/completions',
            anthropic => '/v1/messages',
            google => '/v1beta/models/f:generateContent');

sub ask {
    my ($who, $dialect, %o) = @_;
    my $of = $o{t} || $t;
    my $body = $dialect eq 'google'
        ? { contents => [ { parts => [ { text => 'hi' } ] } ] }
        : { model => $o{model} // 'f', stream => JSON::PP::false(),
            max_tokens => 16, options => { num_predict => 16 },
            messages => [ { role => 'user', content => $o{text} // 'hi' } ] };
    return $of->post($path{$dialect}, $body, as => $as{$who});
}

# names of all headers about limits
sub about {
    my ($r) = @_;
    return join ' ', sort grep { /ratelimit|retry-after/ }
        keys %{$r->{headers}};
}

# [ [ name, { parameter => value } ]... ] of a list of structured fields
sub items {
    my ($text) = @_;
    my @items;
    for (split /, /, $text // '') {
        my ($name, $more) = /^"([a-z]+)"((?:;[a-z-]+=(?:\d+|"[a-z-]+"))+)$/
            or return "not a list: $text";
        push @items, [ $name, { map { /^([a-z-]+)="?([^"]*)"?$/ }
                                grep { length } split /;/, $more } ];
    }
    return \@items;
}

sub left {
    my ($r, $name) = @_;
    my ($item) = grep { $_->[0] eq $name } @{ items($r->{headers}{ratelimit}) };
    return $item ? $item->[1] : {};
}

my $openai = join ' ', map { ("x-ratelimit-limit-$_",
    "x-ratelimit-remaining-$_", "x-ratelimit-reset-$_") } qw(requests tokens);
my $anthropic = join ' ', map { ("anthropic-ratelimit-$_-limit",
    "anthropic-ratelimit-$_-remaining", "anthropic-ratelimit-$_-reset") }
    qw(requests tokens);
my $draft = 'ratelimit ratelimit-policy';
my %names = (ollama => $draft, google => $draft,
    openai => join(' ', sort split / /, "$draft $openai"),
    anthropic => join(' ', sort split / /, "$draft $anthropic"));


subtest 'on an answer, by dialect' => sub {
    for my $dialect (qw(ollama openai anthropic)) {
        my $r = ask('whole', $dialect);
        is $r->{status}, 200, $dialect;
        is about($r), $names{$dialect}, 'these and no others';
        is $r->{headers}{'ratelimit-policy'}, '"rate";q=60;w=60;hybrid-burst=30'
           . ', "tokens";q=6000;w=60;hybrid-unit="tokens";hybrid-burst=3000, '
           . '"budget";q=5000000;w=86400;hybrid-unit="millionths", '
           . '"concurrency";q=4;qu="concurrent-requests"', 'the policies';
        is_deeply [ map { $_->[0] } @{ items($r->{headers}{ratelimit}) } ],
                  [ qw(rate tokens budget concurrency) ], 'what is left';
    }

    my $r = ask('whole', 'openai');
    my %h = %{$r->{headers}};
    my ($rate, $tokens) = map { left($r, $_) } qw(rate tokens);

    # four were asked for, one a second comes back
    cmp_ok $rate->{r}, '>=', 26, 'requests, the own one is counted';
    cmp_ok $rate->{r}, '<', 30, 'not all';
    ok $rate->{t} >= 30 - $rate->{r} - 1 && $rate->{t} <= 30 - $rate->{r} + 1,
       "until all are there: $rate->{t}";
    cmp_ok $tokens->{r}, '<', 3000, 'tokens';
    cmp_ok $tokens->{r}, '>', 2800, 'of one reservation and three answers';
    is left($r, 'concurrency')->{r}, 3, 'itself and three others';
    is left($r, 'concurrency')->{t}, undef, 'which is not a matter of time';
    is left($r, 'budget')->{r}, 5000000, 'no money is spent';
    my $day = 86400 - time % 86400;
    cmp_ok abs(left($r, 'budget')->{t} - $day), '<', 20, 'a day of UTC';

    is $h{'x-ratelimit-limit-requests'}, 60, 'limit';
    is $h{'x-ratelimit-remaining-requests'}, $rate->{r}, 'remaining';
    like $h{'x-ratelimit-reset-requests'}, qr/^\d+(ms|s)$/, 'reset';
    is $h{'x-ratelimit-limit-tokens'}, 6000, 'limit, of tokens';
    is $h{'x-ratelimit-remaining-tokens'}, $tokens->{r}, 'remaining';
    like $h{'x-ratelimit-reset-tokens'}, qr/^\d+(ms|s)$/, 'reset';

    $r = ask('whole', 'anthropic');
    %h = %{$r->{headers}};
    is $h{'anthropic-ratelimit-tokens-limit'}, 6000, "Anthropic's";
    is $h{'anthropic-ratelimit-tokens-remaining'}, left($r, 'tokens')->{r},
       'remaining';
    my @date = $h{'anthropic-ratelimit-requests-reset'}
        =~ /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z$/;
    my $at = timegm(@date[5, 4, 3], $date[2], $date[1] - 1, $date[0]);
    cmp_ok abs($at - time - left($r, 'rate')->{t}), '<=', 5, 'a date';
};


subtest 'who has no limits, or is not known' => sub {
    is about(ask('free', $_)), '', "free, $_" for qw(ollama openai anthropic);
    my $r = $t->post($path{openai}, { model => 'f' }, as => undef);
    is $r->{status}, 401, 'nobody';
    is about($r), '', 'is told nothing';
};


subtest 'only what there is' => sub {
    my $r = ask('spare', 'openai');
    is about($r), join(' ', sort split / /, "$draft "
        . join ' ', map { "x-ratelimit-$_-requests" }
          qw(limit remaining reset)), 'no tokens';
    is $r->{headers}{'x-ratelimit-reset-requests'}, '1h0m0s', "Go's time";
    is $r->{headers}{ratelimit}, '"rate";r=8;t=3600, "concurrency";r=1',
       'in full';

    $r = $t->get('/v1/models', as => $as{spare});
    is left($r, 'rate')->{r}, 7, 'a list counts, too';

    $r = ask('spare', 'openai', model => 'nobody');
    is $r->{status}, 404, 'an error';
    is $r->{headers}{ratelimit}, '"rate";r=6, "concurrency";r=1',
       'has no time of its own';
};


subtest 'refused by the rate' => sub {
    is ask('single', 'ollama')->{status}, 200, 'the only one in an hour';

    for my $dialect (qw(ollama openai anthropic google)) {
        my $r = ask('single', $dialect);
        my %h = %{$r->{headers}};
        is $r->{status}, 429, "$dialect: 429";
        is about($r), join(' ', sort 'retry-after', split / /,
            $dialect eq 'anthropic' ? $names{anthropic} : $names{openai}),
            'these and no others';
        my $retry = $h{'retry-after'};
        like $retry, qr/^(3600|35\d\d)$/, 'Retry-After';
        is left($r, 'rate')->{r}, 0, 'nothing is left';
        is left($r, 'rate')->{t}, $retry, 'until then';
        is left($r, 'tokens')->{t}, undef, 'the other one is not why';
        cmp_ok left($r, 'tokens')->{r}, '>', 999000, 'and has enough';
    }

    my $r = ask('single', 'openai');
    is $r->{headers}{'x-ratelimit-remaining-requests'}, 0, 'remaining';
    like $r->{headers}{'x-ratelimit-reset-requests'},
         qr/^(1h0m0s|59m\d+s)$/, 'reset';
};


subtest 'refused by tokens, money, requests at a time' => sub {
    $odd->answer(200, '{"choices":[],"usage":{"prompt_tokens":300,'
        . '"completion_tokens":100}}', 'Content-Type' => 'application/json');
    my $r = ask('words', 'openai', model => 'o');
    is $r->{status}, 200, 'most of a minute';
    $r = ask('words', 'openai', text => 'x' x 1600);
    is $r->{status}, 429, 'too many tokens';
    is $r->{headers}{'x-hybrid-reason'}, 'tokens_limited', 'they are why';
    my ($left, $retry) = (left($r, 'tokens'), $r->{headers}{'retry-after'});
    cmp_ok $left->{r}, '>', 0, 'some are left, but not enough';
    is $left->{t}, $retry, 'until these are';
    ok $retry > 5 && $retry <= 30, "$retry s: about 250 at ten a second";
    is left($r, 'rate')->{t}, undef, 'the rate is not why';

    ask('month', 'openai', model => 'p');
    $r = ask('month', 'openai', model => 'p');
    is $r->{status}, 429, 'the money is spent';
    is $r->{headers}{'ratelimit-policy'}, '"budget";q=2;'
       . 'hybrid-unit="millionths";hybrid-period="month"', 'of a month';
    my @now = gmtime;
    my $next = timegm(0, 0, 0, 1, ($now[4] + 1) % 12,
                      $now[5] + 1900 + ($now[4] == 11));
    is left($r, 'budget')->{t}, $r->{headers}{'retry-after'}, 'until';
    cmp_ok abs($next - time - $r->{headers}{'retry-after'}), '<', 20,
           'its end';

    $odd->steps({ hang => 1 });
    my $open = $t->open;
    $open->send("POST /api/chat HTTP/1.1\r\nHost: x\r\n"
        . $t->auth_lines($as{slots}) . "Content-Length: 28\r\n\r\n"
        . '{"model":"o","messages":[ ]}');
    poll { scalar $odd->requests };
    $r = ask('slots', 'openai');
    is $r->{status}, 429, 'one at a time';
    is_deeply left($r, 'concurrency'), { r => 0, t => 1 }, 'none is free';
    is $r->{headers}{'retry-after'}, 1, 'soon';
    $open->close;
};


subtest "a cloud's own" => sub {
    my @own = ('X-RateLimit-Limit-Requests' => 10000,
        'x-ratelimit-remaining-tokens' => 5,
        'x-ratelimit-limit-project-tokens' => 7,
        'anthropic-ratelimit-input-tokens-limit' => 8,
        'RateLimit' => '"default";r=1;t=9', 'RateLimit-Policy' => '"x";q=3',
        'RateLimit-Limit' => 4);

    for my $case ([ 200, '', 'free' ], [ 200, $draft, 'spare' ],
                  [ 429, 'retry-after', 'free' ])
    {
        my ($status, $names, $who) = @$case;
        $odd->answer($status, '{"done":true}', 'Content-Type' =>
            'application/json', @own, $status == 429 ? ('Retry-After', 7)
            : ());
        my $r = ask($who, 'ollama', model => 'o');
        is $r->{status}, $status, "$status to $who";
        is about($r), $names, 'only ours';
        unlike $r->{headers}{ratelimit} // '', qr/default/, 'not its own';
        is $r->{headers}{'retry-after'}, 7, 'but when to come again'
            if $status == 429;
    }
};


subtest 'while Redis is away' => sub {
    my $u = Hybrid->new;
    my $dead = $u->closed_port;
    my %loss = (local => 'rate 1r/h burst=5 loss=local; concurrency 3;',
        open => 'rate 1r/h burst=2 loss=open; concurrency 9 loss=open;',
        closed => 'rate 1r/h burst=2 loss=closed; tokens 1M/d;');
    $as{$_} = $u->token($_) for keys %loss;
    $u->start(http => "hybrid_redis 127.0.0.1:$dead;\n" . $backends . join '',
        map { "hybrid_client $_ { $as{$_}{line} models *; $loss{$_} }\n" }
        sort keys %loss);

    my $r = ask('local', 'openai', t => $u);
    is $r->{headers}{'x-hybrid-limits'}, 'local', 'local';
    is left($r, 'rate')->{r}, 4, 'the own account';
    is left($r, 'concurrency')->{r}, 2, 'the own slots';

    $r = ask('open', 'openai', t => $u) for 1 .. 3;
    is $r->{status}, 200, 'more than there are';
    is $r->{headers}{'x-hybrid-limits'}, 'open', 'open';
    is left($r, 'rate')->{r}, 0, 'none';

    $r = ask('closed', 'openai', t => $u);
    is $r->{status}, 503, 'closed';
    is $r->{headers}{'x-hybrid-limits'}, 'closed', 'it says so';
    is_deeply left($r, 'rate'), { r => 0, t => 1 }, 'nothing passes';
    is_deeply left($r, 'tokens'), { r => 1000000 }, 'that is not why';
    is $r->{headers}{'retry-after'}, 1, 'Retry-After';
    $u->done;
};


$t->done;
