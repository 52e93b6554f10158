// Credentials in a config.json.
import { expect, test } from 'vitest';
import { dockerConfig } from '../../../../src/builds/backends/buildkit/workspace.ts';

test('gives credentials by host, and those of Docker Hub under its old key too', () => {
  const credentials = new Map([
    ['registry.example:5000', { username: 'a', password: 'p:w' }],
    ['docker.io', { username: 'b', password: 'c' }],
  ]);
  expect(dockerConfig(credentials)).toEqual({
    auths: {
      'registry.example:5000': { auth: btoa('a:p:w') },
      'docker.io': { auth: btoa('b:c') },
      'https://index.docker.io/v1/': { auth: btoa('b:c') },
    },
  });
});
