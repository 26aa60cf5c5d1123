package Hello;
use strict;
use warnings;
use Apache2::RequestRec ();
use Apache2::RequestIO ();
use APR::Table ();
use Apache2::Const -compile => qw(OK);

sub handler {
  my $r = shift;
  $r->content_type('text/plain');
  $r->headers_out->set('Content-Length' => 20);
  $r->print("Hello from Hostler!\n");
  return Apache2::Const::OK;
}

1;
