# A key set in a file: read again when it changes, replaced as a whole by a
# good one, and by nothing else.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridJwt;
use Test::More;
use Time::HiRes 'sleep';

my $t = Hybrid->new;
my $b = $t->backend('b', models => 'm');

my $one = HybridJwt->key('ES256', kid => 'one');
my $two = HybridJwt->key('ES256', kid => 'two');
my $swapped = HybridJwt->key('ES256', kid => 'two', instead => 1);
my $file = $t->file('set.json', jwks($one));

my @hmac = map { HybridJwt->key('HS256', kid => 'h', secret => $_ x 32) }
           qw(a b);
my $secret = $t->file('hmac', $hmac[0]{secret});

# the workers' user reads it, too
chmod 0755, $t->{dir};
chmod 0644, $file, $secret;

my $from = 0;

$t->start(workers => 2, http => <<"END");
    hybrid_issuer i {
        issuer https://issuer.test;
        audience gateway;
        jwks $file;
        algorithms ES256 HS256;
        secret $secret kid=h;
    }
    hybrid_client alice { jwt i sub=alice; models *; }
    hybrid_backend b { pass http://$b->{addr}; models m; }
    hybrid_route * b;
    set_real_ip_from 127.0.0.1;
    real_ip_header X-From;

    server {
        listen 127.0.0.1:%PORT%;
        location / { hybrid_access jwt; include %PROXY%; }
    }
END

sub status {
    my ($jwt) = @_;
    my $address = sprintf '10.0.%d.%d', ++$from / 256, $from % 256;

    return $t->get('/api/version', headers => {
        Authorization => "Bearer $jwt", 'X-From' => $address })->{status};
}

# so often in a row that both workers have been asked
sub all_say {
    my ($status, @jwt) = @_;

    return poll {
        for my $jwt (@jwt, @jwt) {
            for (1 .. 12) {
                return 0 if status($jwt) != $status;
            }
        }
        1;
    };
}

# what is set aside becomes the file
sub renamed {
    my ($text) = @_;
    my $new = $t->file('new.json', $text);

    chmod 0644, $new;
    rename $new, $file or die "rename: $!";
}

sub in_place {
    my ($text) = @_;

    open my $out, '>', $file or die "$file: $!";
    print $out $text;
    close $out;
}

my $by_one = $one->mint(claims());
my $by_two = $two->mint(claims());
my $by_swapped = $swapped->mint(claims());

ok all_say(200, $by_one), 'the first key';
is status($by_two), 401, 'not the second';

renamed(jwks($one, $two));
ok all_say(200, $by_two), 'the second, too';
ok all_say(200, $by_one), 'and the first';

renamed(jwks($two));
ok all_say(401, $by_one), 'the first is out, though it was remembered';
ok all_say(200, $by_two), 'the second stays';

in_place(jwks($swapped));
ok all_say(401, $by_two), 'another key with the same kid';
ok all_say(200, $by_swapped), 'is the one that counts';

in_place(jwks($one));
ok all_say(200, $by_one), 'in place';
ok all_say(401, $by_swapped), 'and the other is out';


my %bad = (
    'an empty file' => '',
    'HTML' => '<html>sorry</html>',
    'half a set' => substr(jwks($two), 0, -20),
    'no keys' => jwks(),
    'keys for others' => jwks(HybridJwt->key('EdDSA', kid => 'ed')),
    'a secret' => jwks($two->jwk(d => 'AAAA')),
    'the same kid twice' => jwks($two, $swapped),
    'another document' => '{"issuer":"https://issuer.test"}',
    'a list' => '[' . HybridJwt::encode($two->jwk) . ']',
    'members twice' => jwks($two) =~ s/\{/{"keys":[],/r,
    'too large' => jwks($two) . ' ' x 1048576,
    '101 keys' => jwks(map { $two->jwk(kid => "k$_") } 0 .. 100),
);

my $complaint = qr{\[(?:warn|info)\]\ .*
                   (?:the\ keys\ before\ it\ stay|larger\ than\ 1048576)}x;

for my $name (sort keys %bad) {
    my $before = () = $t->log('error.log') =~ /$complaint/g;

    renamed($bad{$name});
    ok $t->wait_log('error.log', $complaint, $before + 2),
       "$name: both workers say so";
    ok all_say(200, $by_one), "$name: the good keys stay";
    is status($by_two), 401, "$name: and no other";
}

sleep 3.5;
my $said = () = $t->log('error.log') =~ /$complaint/g;
sleep 2.5;
is scalar(() = $t->log('error.log') =~ /$complaint/g), $said,
   'a bad set is told of once';

renamed(jwks($one));
sleep 2.5;
unlink $file;
ok $t->wait_log('error.log', qr/set\.json" failed.*what was read before stays/,
                2), 'no file';
ok all_say(200, $by_one), 'the keys stay';

renamed(jwks($two));
ok all_say(200, $by_two), 'a good set again';
ok all_say(401, $by_one), 'replaces all';


# a secret, too

my @by_hmac = map { $_->mint(claims()) } @hmac;
ok all_say(200, $by_hmac[0]), 'a secret';
is status($by_hmac[1]), 401, 'not another one';

for my $case ([ 'too short', 'short' ], [ 'one line', "b\n" x 40 ]) {
    my ($says, $text) = @$case;
    my $bad = $t->file('hmac.new', $text);

    chmod 0644, $bad;
    rename $bad, $secret or die "rename: $!";
    ok $t->wait_log("error.log", qr{\[(?:warn|info)\].*hmac" .*$says}, 2),
       $says;
    ok all_say(200, $by_hmac[0]), 'the old secret stays';
}

{
    my $new = $t->file('hmac.new', $hmac[1]{secret});

    chmod 0644, $new;
    rename $new, $secret or die "rename: $!";
}

ok all_say(200, $by_hmac[1]), 'another secret';
ok all_say(401, $by_hmac[0]), 'ends the first, though it was remembered';


# a bad one does not start, and does not stop what runs

in_place('nothing');

kill HUP => $t->{pid};
ok $t->wait_log('error.log', qr/\[emerg\].*issuer "i": the key set is not/),
   'a reload is refused';
ok all_say(200, $by_two), 'and the keys stay';

in_place(jwks($one, $two));
ok $t->reload, 'a reload';
ok all_say(200, $by_one, $by_two), 'with other keys';

$t->{expected} = [ qr/key set is not JSON/, qr/set\.json" can't be used/ ];
$t->done;
