// Where images are that recipes built for an upstream's names.

/** `local/builds/registry.example-5000/team/app` for `team/app` of `registry.example:5000`: nothing has to be kept to find it again. */
export function shadowName(buildsRepository: string, registry: string, repository: string): string {
  // A component holds letters, digits, and single separators between them.
  const component = registry
    .toLowerCase()
    .split(/[^a-z0-9._-]+/)
    .filter(Boolean)
    .join('-');
  return `${buildsRepository}/${component}/${repository}`;
}
