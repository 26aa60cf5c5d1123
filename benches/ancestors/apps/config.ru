run lambda { |_env|
  [200, { 'content-type' => 'text/plain', 'content-length' => '20' }, ["Hello from Hostler!\n"]]
}
