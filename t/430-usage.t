# OpenAI's streams are asked for their usage; who has not asked does not see
# it, and everything else is the same to the byte.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use HybridStream;
use Test::More;

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'f,other:7b', tokens => 4);
my $odd = HybridOdd->new($t, 'odd');
my $alice = $t->{as} = $t->token('alice');
my ($memory, $spool) = (1, 2);

sub server {
    my ($port, $size) = @_;
    my $text = Hybrid::_slurp("$Hybrid::ROOT/conf/hybrid_proxy.conf")
               =~ s/^(client_body_buffer_size) .*/$1 $size;/mr;
    my $file = $t->file("proxy.$port", $text);
    return "server { listen 127.0.0.1:%PORT$port%; location / {"
           . " hybrid_access token; include $file; } }\n";
}

$t->start(http => server($memory, '1m') . server($spool, '1k') . <<"END");
    hybrid_client alice { $alice->{line} models *; }
    hybrid_backend forge { pass http://$forge->{addr}; probe off; }
    hybrid_backend named { pass http://$forge->{addr}; probe off;
                           rename n other:7b; }
    hybrid_backend odd   { pass http://$odd->{addr}; probe off; }
    hybrid_route f forge;
    hybrid_route n named;
    hybrid_route o odd;
END

my $path = '/v1/chat/completions';
my $asked = '"stream_options":{"include_usage":true}';
my $pad = 'x' x 4000;

# what the client sends after the model, and what the backend gets
my @bodies = (
    [ '"stream":true', qq("stream":true,$asked) ],
    [ '"stream" : true , "n":1', qq("stream" : true,$asked , "n":1) ],
    [ '"stream":true,"stream_options":null', qq("stream":true,$asked) ],
    [ '"stream":true,"stream_options":{}', qq("stream":true,$asked) ],
    [ qq("stream_options":{ \n },"stream":true),
      qq("stream_options":{"include_usage":true \n },"stream":true) ],
    [ '"stream":true,"stream_options":{"include_usage":false}',
      qq("stream":true,$asked) ],
    [ '"stream":true,"stream_options":{"include_usage":null,"a":[1]}',
      '"stream":true,"stream_options":{"include_usage":true,"a":[1]}' ],
    [ '"stream":true,"stream_options":{ "a":{"include_usage":false}}',
      '"stream":true,"stream_options":{"include_usage":true, '
      . '"a":{"include_usage":false}}' ]);
my @same = ('"stream":false', '"n":1', qq("stream":true,$asked),
            '"stream":null', '"stream":true,"stream_options":{'
            . '"include_usage":true,"a":1}');

subtest 'what a backend is sent' => sub {
    for my $model (qw(f n)) {
        for my $port ($memory, $spool) {
            for my $case (@bodies, map { [ $_, $_ ] } @same) {
                my ($sent, $got) = map { qq({"x":"$pad","model":"$model",$_,)
                    . '"messages":[{"role":"user","content":"hi"}]}' } @$case;
                $got =~ s/"model":"n"/"model":"other:7b"/;
                my $r = stream($t, $path, $sent, port => $t->port($port));
                is $r->{status}, 200, "$model, $port: $case->[0]";
                is $forge->last->{body_sha256}, Hybrid::sha256($got), 'got';
                is $forge->last->{body_length}, length $got;
                my $wanted = $case->[0] =~ /stream":true/
                             && $case->[0] =~ /usage":true/
                             || $case->[0] !~ /stream"\s*:\s*true/;
                ok !!($r->{text} =~ /total_tokens/) == !!$wanted, 'usage';
                ok $r->{whole}, 'whole';
            }
        }
    }

    for my $other ('/api/chat', '/v1/messages', '/v1/responses') {
        my $body = '{"model":"f","stream":true,"messages":[]}';
        stream($t, $other, $body);
        is $forge->last->{body_sha256}, Hybrid::sha256($body), $other;
    }
};


# cut in two anywhere
subtest 'what a client gets' => sub {
    my @said = sse(qw(a b));
    my @with = (@said[0 .. 2], usage_chunk(), $said[3]);
    my ($text, $all) = map { join '', @$_ } \@said, \@with;
    my $head = head('text/event-stream', 'Content-Length' => length $all);
    my $body = { model => 'o', stream => \1, messages => [] };
    my @bad;

    for my $at (map { $_ * 3 } 0 .. length($all) / 3) {
        $odd->steps({ send => $head . substr($all, 0, $at), pause => 0.005 },
                    { send => substr $all, $at });
        my $r = stream($t, $path, $body);
        push @bad, $at if $r->{text} ne $text;
    }

    is "@bad", '', 'the same but for its usage';

    $odd->steps({ send => $head }, { drip => $all, pause => 0.0005 });
    is stream($t, $path, $body)->{text}, $text, 'byte by byte';

    # too long to be looked at, or not about usage alone
    for my $event (qq(data: {"choices":[{"x":"$pad$pad"}],"usage":{}}\n\n),
                   qq(data: {"x":"$pad$pad","choices":[],"usage":{}}\n\n),
                   qq(data: {"choices":[]}\n\n), ": hello\n\n",
                   qq(data: {"choices":[],"usage":null}\n\n))
    {
        my $all = join '', $event, @said;
        $odd->steps({ send => head('text/event-stream', 'Content-Length' =>
            length $all) . substr($all, 0, length($event) - 9),
            pause => 0.05 }, { send => substr $all, length($event) - 9 });
        is stream($t, $path, $body)->{text}, $all, 'passes';
    }
};

$t->done;
