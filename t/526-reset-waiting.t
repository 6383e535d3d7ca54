# An operator's reset while a request waits: what that takes afterwards is
# settled like that of any other.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use IO::Socket::INET;
use JSON::PP 'encode_json';
use Test::More;

my $cloud = backend(name => 'cloud', args => { tokens => 20 });
my %client = map { $_->{name} => $_ }
    client_block('operator', '', verbs => 'read admin'),
    client_block('waits', 'tokens 1000/h; budget 10.00/d;'
        . ' queue 5 timeout=3000s; egress any;');
my $gw = gateway(workers => 1,
    server => 'location /hybrid/admin/ { hybrid_access token; hybrid_admin; }',
    http => "hybrid_zone 2m;\n" . join('', map { $_->{conf} } values %client)
    . <<"END");
hybrid_backend cloud { pass http://127.0.0.1:$cloud->{port}; models *;
    probe off; egress cloud; price output=10000; }
hybrid_route * cloud;
END

# "most" tokens are reserved, at 0.01, and 20 used
sub text {
    my ($most) = @_;
    return post($client{waits}, body => body('mistral:7b',
        more => { options => { num_predict => $most } }));
}

sub begin {
    my ($text) = @_;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $gw->{port}) or die "connect: $!";
    print $s $text;
    $s->flush;
    return $s;
}

sub row {
    my ($row) = grep { $_->{name} eq 'waits' } @{ $gw->status->{clients} };
    return $row;
}

$cloud->mock('behave', { delay_ms => 6000 });
my $long = begin(text(850));
ok(wait_until(sub { $cloud->mock('stats')->{active} == 1 }),
    'one has most of the tokens');
$cloud->mock('behave', {});
my $waits = begin(text(500));
ok(wait_until(sub { row()->{waiting} == 1 }), 'the next one waits');

my $body = encode_json({ client => 'waits', action => 'reset' });
is(raw_http($gw->{port}, "POST /hybrid/admin/limits HTTP/1.1\r\nHost: x\r\n"
    . "$client{operator}{headers}Content-Type: application/json\r\n"
    . 'Content-Length: ' . length($body)
    . "\r\nConnection: close\r\n\r\n$body")->{status}, 200, 'a reset');

like(scalar readline $waits, qr/ 200 /, 'it goes on');
like(scalar readline $long, qr/ 200 /, 'the long one ends, too');
close $_ for $waits, $long;

# it took 5.00 for its 500 tokens, and used 0.20; the other one's are void

ok(wait_until(sub { row()->{limits}{budget}{used} == 0.2 }),
    'what it did not use is back') or diag(explain(row()->{limits}));

ok($gw->stop, 'ended');
log_is_clean($gw, qr/has used 80%|limits of client/);
all_ended();
done_testing();
