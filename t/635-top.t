# hybrid-ctl top: what the gateway tells of itself, and what is made of it.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm1,m2', token_ms => 1);
my $down = $t->closed_port;
my %token = map { $_ => $t->token($_) } qw(op alice);
my $tool = "$Hybrid::ROOT/tools/hybrid-ctl";

$t->start(workers => 2, http => <<"END");
    hybrid_client op { $token{op}{line} verbs admin; models *; }
    hybrid_client alice { $token{alice}{line} models m1; }
    hybrid_backend forge { pass http://$forge->{addr}; slots 4;
        probe interval=100ms; }
    hybrid_backend down { pass http://127.0.0.1:$down;
        probe interval=100ms fails=1; }
    hybrid_route * forge down;
    server {
        listen 127.0.0.1:%PORT%;
        location / { hybrid_access token; include %PROXY%; }
        location /hybrid/admin/ { hybrid_access token; hybrid_admin; }
    }
END

my $url = 'http://127.0.0.1:' . $t->port . '/hybrid/admin';
my $file = $t->file('op.token', "$token{op}{id}:$token{op}{secret}\n");
my @ctl = ('sh', $tool, '-t', $file);

sub ask {
    my ($model) = @_;
    return $t->post('/api/chat', { model => $model, stream => JSON::PP::true },
                    as => $token{alice})->{status};
}

is ask('m1'), 200, 'a request' for 1 .. 3;
is ask('m2'), 403, 'one that is refused';

my $r;
ok poll {
    $r = $t->get('/hybrid/admin/top?format=text', as => $token{op});
    $r->{content} =~ /^anomaly\tbackend_down\t down\t/m
        && $r->{content} =~ /\tm1:latest$/m;
}, 'what is wrong, and what probes have found' or diag $r->{content};

like $r->{content}, qr/\Atime\t\d{10}\.\d{3}\n/, 'the time';
like $r->{content}, qr/^backend\tforge\t-\t0\t4\t0\tm1:latest$/m, 'a backend';
like $r->{content}, qr/^path\tforge\t\Q$forge->{addr}\E\tup\t0\.\d{6}$/m,
     'a path';
like $r->{content}, qr/^series\talice\tforge\tm1\t3\t3\t0\t0\t\d+\t\d+:\d+/m,
     'a series, with its first tokens';
is $t->get('/hybrid/admin/top', as => $token{op})->{status}, 400, 'only text';
is $t->get('/hybrid/admin/top?format=text', as => $token{alice})->{status},
   403, 'for administrators';

my $text = $t->run(@ctl, '-u', $url, 'top', '--once');
is $t->{rc}, 0, 'hybrid-ctl top --once' or diag $text;
like $text, qr/\A! backend_down: down: no path to it is up/, 'anomalies first';
like $text, qr/^forge +- +0 +4 +0 +m1:latest$/m, 'backends';
like $text, qr/^down +down +0 +- +0 *$/m, 'one that is down';
like $text, qr/^  127\.0\.0\.1:$down +down +- ms$/m, 'nobody knows how fast';
like $text, qr/^  \Q$forge->{addr}\E +up +\d+\.\d ms$/m, 'paths';
like $text, qr/^forge +m1 +3 +- +[\d.]+ +[\d.]+ +- +0$/m, 'models';
like $text, qr/^alice +4 +- +1 +1\/4$/m, 'clients';
unlike $text, qr/[^ -~\n]/, 'plain text';
is scalar(grep { length > 80 } split /\n/, $text), 0, 'of 80 columns';

$text = $t->run(@ctl, '-u', $url, '-u', "$url/", qw(top -n 1));
is $t->{rc}, 0, 'without a terminal it looks once';
is scalar(() = $text =~ /^$url\/$/mg), 2, 'at each gateway';

# on a terminal: two looks with a request between, then an interrupt
my $out = "$t->{dir}/screen";
my $pid = fork // die "fork: $!";

if (!$pid) {
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', '/dev/null';
    exec 'script', '-qfec', "timeout -s INT 30 @ctl -u $url top -n 1", $out
        or POSIX::_exit(127);
}

sub screen { return Hybrid::_slurp($out) }

ok poll { screen() =~ /\e\[H.*\e\[J/s }, 'a screen';
ask('m1') for 1 .. 2;
ok poll { screen() =~ /^forge +m1 +2 +\d+\.\d +[\d.]+ +[\d.]+ +\d+\.\d +0\b/m },
   'rates since the last look' or diag screen();

my ($child) = split ' ', Hybrid::_slurp("/proc/$pid/task/$pid/children");
kill INT => split ' ', Hybrid::_slurp("/proc/$child/task/$child/children")
    if $child;
kill INT => $child if $child;
ok poll { waitpid($pid, POSIX::WNOHANG()) }, 'it ends when it is told to';
like screen(), qr/\e\[\?25l/, 'the cursor was away';
like screen(), qr/\e\[\?25h\s*(?:\nScript done.*)?\z/s, 'and is back';

# one gateway that is away does not keep the other from being looked at
my $away = 'http://127.0.0.1:' . $t->closed_port . '/';
$text = $t->run(@ctl, '-u', $away, '-u', $url, qw(top --once));
is $t->{rc} >> 8, 1, 'one is away';
like $text, qr/^hybrid-ctl: \Q$away\E: \(7\) /m, 'which';
like $text, qr/^forge +- +0 +4 /m, 'the other one is shown';
unlike $text, qr/^000$/m, 'no status where there is none';
$text = $t->run(@ctl, '-u', $away, qw(top --once));
is $t->{rc} >> 8, 1, 'none is there';
is scalar(() = $text =~ /\n/g), 1, 'in one line' or diag $text;

# whatever answers there: a terminal obeys none of it
my $odd = HybridOdd->new($t, 'odd');
my $bad = "\e[31mred\e]0;title\a\bx\r\x7f\n";

for my $case ([ 200, qw(explain -m m1 -c alice) ], [ 500, 'status' ],
              [ 200, 'status' ], [ 404, qw(top --once) ]) {
    my ($status, @args) = @$case;
    $odd->answer($status, $bad, 'Content-Type' => 'text/plain');
    $text = $t->run(@ctl, '-u', "http://$odd->{addr}/", @args);
    unlike $text, qr/[^\n\t -~]/, "$status, $args[0]: plain text";
}

# a gateway that was started anew between two looks
$out = "$t->{dir}/anew";
sub looks {
    return "time\t$_[0]\nseries\talice\tforge\tm1\t$_[1]\t$_[1]\t0\t0\t"
           . $_[1] * 10 . "\t100:$_[1]\n";
}
$odd->answer(200, looks(100, 500), 'Content-Type' => 'text/plain');
$pid = fork // die "fork: $!";

if (!$pid) {
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', '/dev/null';
    exec 'script', '-qfec',
        "timeout -s INT 30 @ctl -u http://$odd->{addr}/ top -n 1", $out
        or POSIX::_exit(127);
}

ok poll { screen() =~ /^forge +m1 +500 +- /m }, 'before';
$odd->answer(200, looks(110, 4), 'Content-Type' => 'text/plain');
ok poll { screen() =~ /^forge +m1 +4 +- /m }, 'it counts from nothing'
    or diag screen();
$odd->answer(200, looks(120, 14), 'Content-Type' => 'text/plain');
ok poll { screen() =~ /^forge +m1 +10 +1\.0 .* 10\.0 /m }, 'and then on';
unlike screen(), qr/ -\d/, 'nothing is negative';
($child) = split ' ', Hybrid::_slurp("/proc/$pid/task/$pid/children");
kill INT => split ' ', Hybrid::_slurp("/proc/$child/task/$child/children")
    if $child;
kill INT => $child if $child;
ok poll { waitpid($pid, POSIX::WNOHANG()) }, 'ended';

for my $wrong ([qw(top forge)], [qw(top -n 0)], [qw(top -n x)]) {
    $t->run(@ctl, @$wrong);
    is $t->{rc} >> 8, 2, "wrong usage: @$wrong";
}

$t->done;
