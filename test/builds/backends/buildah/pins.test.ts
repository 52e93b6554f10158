// Which bases are pinned.
import { expect, test } from 'vitest';
import { pinBases } from '../../../../src/builds/backends/buildah/command.ts';
import { plainSpec } from '../../../support/plain-order.ts';

const pinned = { name: 'docker.io/library/alpine@sha256:1', isInsecure: false };

test.each([
  ['a base', 'FROM alpine\n', ['alpine=docker-image://docker.io/library/alpine@sha256:1']],
  ['none that is the name of a stage too', 'FROM alpine AS alpine\nFROM scratch\nCOPY --from=alpine /a /\n', []],
  ['none that is, in any case', 'from alpine as Alpine\n', []],
])('pins %s', (_, containerFile, pins) => {
  const bases = new Map([['alpine', pinned]]);
  expect(pinBases({ bases, spec: plainSpec({ containerFile }) })).toEqual(pins);
});
