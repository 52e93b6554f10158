// Names of stages, told from the text.
import { expect, test } from 'vitest';
import { hasStage } from '../../../src/builds/containerfile/stages.ts';

test.each([
  ['FROM alpine AS build\n', 'build', true],
  ['  from --platform=linux/arm64 alpine as Build  \n', 'build', true],
  ['FROM alpine\n', 'alpine', false],
  ['FROM alpine AS builder\n', 'build', false],
  ['RUN echo FROM alpine AS build\n', 'build', false],
])('%j: %s %s', (text, name, isStage) => {
  expect(hasStage(text, name)).toBe(isStage);
});
