# Breakers and slots at their worst moments: dead paths, trials, clients that
# break things by themselves, streams that die, workers that are killed.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my $ca = $t->ca;
my @options = (models => 'm,n,emb,emb:v2', tokens => 8);
my ($one, $two) = map { $t->backend($_, @options) } qw(one two);
my $tls = $t->backend('tls', @options, tls => $t->cert($ca, 'home.test'));
my %client = map { $_ => $t->token($_) } qw(alice bob carol);
$t->{as} = $client{alice};

my $clients = join '', map {
    "hybrid_client $_ { $client{$_}{line} models * */*; egress any;
                        verbs inference read; }\n"
} sort keys %client;

sub soon(&$) {
    my ($code, $name) = @_;
    ok scalar(&poll($code)), $name;
}

sub conf {
    my ($text) = @_;
    return (ca => $ca->{cert}, http => "hybrid_zone 2m;\n$clients$text");
}

sub ask {
    my ($model, $expected, $name, %o) = @_;
    my $path = delete $o{path} || '/api/generate';
    my $content = delete $o{content}
                  || { model => $model, prompt => 'x', stream => \0 };
    my $r = $t->post($path, $content, %o);
    is join(' ', $r->{status}, map { $r->{headers}{"x-hybrid-$_"} // '-' }
                               qw(backend fallback)), $expected, $name;
    return $r;
}

# a stream that ends early; its own client sees that
sub broken {
    my ($as) = @_;
    $one->behave(close_after_tokens => 3, times => 1);
    my $r = $t->post('/api/generate', { model => 'm', prompt => 'x' },
                     as => $client{$as});
    unlike $r->{content} // '', qr/"done":\s*true/, "$as: a broken answer";
}


subtest 'a trial is for all paths of a machine' => sub {
    my $dead = $t->closed_port;

    $t->start(conf(<<"END"));
    upstream forge { zone forge 64k; server 127.0.0.1:$dead max_fails=0;
                     server $two->{addr} backup; }
    hybrid_backend forge { pass http://forge; probe off; }
    hybrid_route * forge;
END
    ask('m', '200 forge -', 'by the backup');
    $two->behave(status => 500, times => 3);
    ask('m', '500 forge -', $_, as => $client{$_}) for qw(alice bob carol);
    $two->clear;
    ask('m', '503 - -', 'open');
    soon { $t->post('/api/generate', { model => 'm', stream => \0 })
           ->{status} != 503 } 'tried again';
    is scalar($two->requests), 1, 'by the path that is alive';
    ask('m', '200 forge -', 'closed');
    $t->stop;
};


subtest 'one client alone' => sub {
    $_->clear for $one, $two;
    $t->start(conf(<<"END"),
    upstream one { server $one->{addr} max_fails=0; }
    hybrid_backend one { pass http://one; probe off; }
    hybrid_route * one;
END
        proxy => sub { s/^(proxy_read_timeout) [^;]*;/$1 500ms;/m or die });

    $one->behave(hang_before_header => \1, times => 4);
    ask('m', '504 one -', 'too long') for 1 .. 4;
    $one->clear;
    ask('m', '200 one -', 'opens nothing for another', as => $client{bob});
    $t->stop;
};


subtest 'what counts' => sub {
    $_->clear for $one, $two;
    $t->start(conf(<<"END"));
    upstream one { server $one->{addr} max_fails=0; }
    hybrid_backend one { pass http://one; probe off; }
    hybrid_route * one;
END

    # what needs no runner does not say that it runs
    for (qw(alice bob carol)) {
        $one->behave(status => 500, times => 1);
        ask('m', '500 one -', $_, as => $client{$_});
        is $t->post('/api/show', { model => 'm' })->{status}, 200, 'show';
    }

    ask('m', '503 - -', 'opened all the same');
    is $t->post('/api/show', { model => 'm' })->{status}, 200, 'show';

    # another model of it is well, until its streams die
    ask('n', '200 one -', 'another model');
    $t->stop;

    $t->start(conf(<<"END"));
    hybrid_backend one { pass http://$one->{addr}; probe off; }
    hybrid_route * one;
END
    broken($_) for qw(alice bob carol);
    ask('m', '503 - -', 'streams that die open it');
    $t->stop;
};


subtest 'embeddings' => sub {
    $_->clear for $one, $two;
    $t->start(conf(<<"END"));
    hybrid_backend one { pass http://$one->{addr}; probe off;
                         rename mine emb; }
    hybrid_backend two { pass http://$two->{addr}; probe off;
                         rename mine emb:v2; }
    hybrid_backend v1  { pass http://$two->{addr}; probe off; api openai;
                         rename ours emb:v2; }
    hybrid_route mine one,two;
    hybrid_route ours v1 one;

    upstream g1 { zone g1 64k; server $tls->{addr} max_fails=0; }
    hybrid_backend g1 { pass https://g1/v1beta/openai; host home.test;
        api openai; egress cloud; }
    hybrid_backend g2 { pass https://g1/v1beta/openai; host home.test;
        api openai; egress cloud;
        rename google/text-embedding-004 google/gemini-embedding-001; }
    hybrid_route google/* g1 g2;
END
    my %input = (content => { model => 'mine', input => 'x' },
                 path => '/api/embed');
    ask('', '200 one -', 'always the same model', %input) for 1 .. 4;
    is scalar($two->requests), 0, 'not the other one';

    $input{content}{model} = 'ours';
    ask('', '200 v1 -', 'by /v1', %input, path => '/v1/embeddings');
    my $r = ask('', '503 - -', 'by /api it is another model', %input);
    is $r->{headers}{'x-hybrid-reason'}, 'embedding_model', 'so refused';
    $t->stop;
};


subtest 'keepalive of TLS' => sub {
    plan skip_all => 'no ss' if !grep { -x "$_/ss" } split /:/, $ENV{PATH};

    # nginx leaves sessions that are not in a zone to its exit
    $t->start(conf(<<"END"));
    upstream one { server $one->{addr}; keepalive 4; }
    upstream two { zone two 64k; server $tls->{addr}; keepalive 4; }
    hybrid_backend one { pass http://one; probe off; }
    hybrid_backend two { pass https://two; probe off; host home.test; }
    hybrid_route m one;
    hybrid_route n two;
END
    ask('m', '200 one -', 'plain');
    ask('n', '200 two -', 'TLS');

    for my $b ($one, $tls) {
        my $text = $t->run('ss', '-tnoH', 'state', 'established',
                           "dport = :$b->{port}");
        like $text, qr/timer:\(keepalive,(?:\d\d?sec|\d+\.?\d*ms)/,
             "$b->{name}: asked for after half a minute";
    }

    $t->stop;
};


subtest 'an old worker that is killed' => sub {
    $_->clear for $one, $two;

    for my $signal (qw(KILL TERM)) {
        $t->start(conf(<<"END"));
        hybrid_backend one { pass http://$one->{addr}; probe off; slots 2; }
        hybrid_route * one;
END
        $one->behave(hang_before_header => \1);

        my $body = '{"model":"m"}';
        my @held = map { $t->open } 1, 2;

        $_->send("POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: "
                 . length($body) . "\r\n" . $t->auth_lines . "\r\n$body")
            for @held;
        soon { $one->stats->{active} == 2 } 'full';

        my ($old) = Hybrid::_workers($t->{pid});
        $t->reload;
        ask('m', '503 - -', 'the old worker has them');
        kill $signal => $old;
        $t->expect_log(qr/\[alert\].*exited on signal 9/);
        $one->clear;
        soon { $t->post('/api/generate', { model => 'm', stream => \0 })
               ->{status} == 200 } "$signal: free again";
        $t->stop;
    }
};

$t->done;
