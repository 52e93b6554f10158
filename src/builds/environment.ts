// What child processes see of the service's environment: a list of names, since the rest of it may hold secrets.

export type Environment = Readonly<Record<string, string | undefined>>;

const PASSED = [
  ...['PATH', 'TMPDIR', 'LANG', 'LC_ALL', 'XDG_RUNTIME_DIR', 'SSL_CERT_FILE', 'SSL_CERT_DIR'],
  ...['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy', 'no_proxy', 'all_proxy'],
] as const;

/** The variables that are passed on, and `own` over them: HOME, DOCKER_CONFIG and what else the command needs. */
export function childEnvironment(environment: Environment, own: Environment): Readonly<Record<string, string>> {
  const passed = PASSED.map(name => [name, environment[name]] as const);
  const entries = [...passed, ...Object.entries(own)];
  return Object.fromEntries(entries.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}
